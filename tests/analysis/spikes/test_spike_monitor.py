"""SpikeMonitor against spikes counted in the trains themselves."""

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, convert_tiny, padding_mask, run, token_ids
from torch import Tensor, nn
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.analysis.spikes.site_spikes import TrainStatistics
from las_sj.models import named_sites
from las_sj.neurons import HGNode, OATNode

pytestmark = pytest.mark.filterwarnings("ignore::las_sj.OutOfRangeWarning")  # chosen thresholds leave much outside

T = 8
NAMES = ["bert", "gpt2", "llama"]
FAN_OUT = {
    "bert": {
        "encoder.layer.0.attention.self.input_node": 3 * 32,
        "encoder.layer.1.attention.output.dense.input_node": 32,
        "encoder.layer.0.intermediate.dense.input_node": 64,
        "encoder.layer.1.output.dense.input_node": 32,
        "pooler.dense.input_node": 32,
    },
    "gpt2": {
        "transformer.h.0.attn.c_attn.input_node": 96,
        "transformer.h.1.attn.c_proj.input_node": 32,
        "transformer.h.0.mlp.c_fc.input_node": 128,
        "transformer.h.1.mlp.c_proj.input_node": 32,
        "lm_head.input_node": 100,
    },
    "llama": {
        "model.layers.0.self_attn.input_node": 32 + 16 + 16,
        "model.layers.1.self_attn.o_proj.input_node": 32,
        "model.layers.0.mlp.input_node": 64 + 64,
        "model.layers.1.mlp.down_proj.input_node": 32,
        "lm_head.input_node": 100,
    },
}


@pytest.fixture(params=NAMES)
def snn(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A model with thresholds that were chosen, not calibrated: some values are outliers, and some out of range."""
    model = convert_tiny(MODELS[request.param](), time_steps=T, levels=3)
    for index, node in enumerate(coders(model).values()):
        normal, outlier = node.parameters()
        normal.data.fill_(0.6 + 0.01 * math.sqrt(index))  # grids without a common measure, so that nothing is a tie
        outlier.data.fill_(2.5 + 0.01 * math.sqrt(index))
    return model.double()


def coders(model: PreTrainedModel) -> dict[str, nn.Module]:
    return {name: site.node for name, site in named_sites(model) if not isinstance(site.node, HGNode)}


def attended(model: PreTrainedModel, mask: Tensor) -> Tensor:
    """Which pairs of tokens meet, bool [B, S, S], for a mask [B, S]."""
    real = mask.bool()
    pairs = real[:, :, None] & real[:, None, :]
    return pairs if model.config.model_type == "bert" else pairs.tril()


def live_neurons(site: str, shape: torch.Size, tokens: Tensor, pairs: Tensor) -> Tensor:
    """Which neurons of a site count, bool of that shape, by the meaning of its dimensions."""
    name = site.rpartition(".")[2]
    if "las_attention" not in site:
        return tokens.unsqueeze(-1).expand(shape) if len(shape) == 3 else torch.ones(shape, dtype=torch.bool)
    if name in ("query_node", "key_node", "value_node"):  # [B, H, S, D]
        return tokens[:, None, :, None].expand(shape)
    pairs = pairs if name in ("weight_node", "probability_node") else tokens.unsqueeze(-1)
    return pairs[:, None, None].expand(-1, *shape[1:3], -1, -1)  # [B, H_kv, G, S, S or 1]


def in_octave(node: nn.Module, v: Tensor) -> Tensor:
    """Potentials in the units of the population that each row opens, in norms."""
    return v if node.octaves is None else v * node.octaves.units(node, v)


class HandCount:
    """Spikes of one site, from its temporal trains."""

    def __init__(self) -> None:
        self.neurons = self.spikes = self.beyond = self.outliers = 0
        self.fired: list[Tensor] = []

    def add(self, v: Tensor, train: Tensor, live: Tensor, node: nn.Module) -> None:
        normal, outlier = (float(parameter) for parameter in node.parameters())
        self.neurons += int(live.sum())
        self.fired.append((train != 0)[:, live])
        self.spikes += int(self.fired[-1].sum())
        self.outliers += int((v[live].abs() > normal).sum())
        self.beyond += int((v[live].abs() > outlier * (1 + 2**-10)).sum())  # up to there it counts as its end


@contextmanager
def counted_by_hand(model: PreTrainedModel, mask: Tensor | None = None) -> Iterator[dict[str, HandCount]]:
    counts: dict[str, HandCount] = {}
    handles = []
    tokens = (torch.ones(3, 10) if mask is None else mask).bool()
    pairs = attended(model, tokens)
    for name, node in coders(model).items():

        def hook(module: nn.Module, args: Any, train: Tensor, name: str = name) -> None:
            v = in_octave(module, args[0].sum(0))
            live = live_neurons(name, v.shape, tokens, pairs)
            counts.setdefault(name, HandCount()).add(v, train, live, module)

        handles.append(node.register_forward_hook(hook))
    yield counts
    for handle in handles:
        handle.remove()


def counts_of(monitor: SpikeMonitor) -> dict[str, tuple[int, int]]:
    return {name: (counts.neurons, counts.spikes) for name, counts in monitor.sites.items()}


@pytest.mark.parametrize("padding", ["none", "right"])
def test_counts_are_those_of_the_trains(snn: PreTrainedModel, padding: str) -> None:
    mask = None if padding == "none" else padding_mask(padding)
    with SpikeMonitor(snn, sample=None) as monitor, counted_by_hand(snn, mask) as expected:
        run(snn, "temporal", input_ids=token_ids(), attention_mask=mask)
    assert expected.keys() == coders(snn).keys()
    for name, counted in expected.items():
        counts = monitor.sites[name]
        assert (counts.neurons, counts.spikes) == (counted.neurons, counted.spikes), name
        assert counts.spikes_per_neuron == counted.spikes / counted.neurons
        assert counts.outlier_share == counted.outliers / counted.neurons
        fired = torch.cat(counted.fired, 1)  # [T, neurons]
        assert counts.trains.firing_rate == pytest.approx(fired.double().mean(1).tolist())
        assert sum(counts.trains.levels.values()) == pytest.approx(counts.spikes_per_neuron)
        assert counts.trains.silent == pytest.approx(float((fired.sum(0) == 0).double().mean()))
    assert sum(counted.beyond for counted in expected.values()) > 0
    assert {name: monitor.sites[name].out_of_range for name in expected} == {
        name: counted.beyond for name, counted in expected.items()
    }


@pytest.mark.parametrize("padding", ["none", "right"])
def test_both_executions_count_the_same(snn: PreTrainedModel, padding: str) -> None:
    mask = None if padding == "none" else padding_mask(padding)
    counts = []
    for execution in EXECUTIONS:
        with SpikeMonitor(snn) as monitor:
            run(snn, execution, input_ids=token_ids(), attention_mask=mask)
        counts.append(counts_of(monitor))
    assert counts[0] == counts[1]
    assert all(neurons > 0 for neurons, _ in counts[0].values())


@pytest.mark.parametrize("length", [10, 8, 4, 32])  # also as many tokens as heads, and as channels
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_padding_is_excluded(snn: PreTrainedModel, execution: str, length: int) -> None:
    """A padded batch counts what its rows count alone."""
    lengths = [length, max(1, length - 3), max(1, length // 2)]
    mask = torch.zeros(3, length, dtype=torch.long)
    for row, real in enumerate(lengths):
        mask[row, :real] = 1
    with SpikeMonitor(snn) as monitor:
        run(snn, execution, input_ids=token_ids(3, length), attention_mask=mask)
    with SpikeMonitor(snn) as alone:
        for row, real in enumerate(lengths):
            run(snn, execution, input_ids=token_ids(3, length)[row : row + 1, :real])
    assert counts_of(monitor) == counts_of(alone)
    assert monitor.tokens == alone.tokens == sum(lengths)
    assert monitor.samples == alone.samples == 3
    for name, counts in monitor.sites.items():
        assert counts.synaptic_operations == alone.sites[name].synaptic_operations
        assert counts.synapses == alone.sites[name].synapses


def test_mean_is_weighted_by_fan_out(snn: PreTrainedModel) -> None:
    name = snn.config.model_type
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    for site_name, fan_out in FAN_OUT[name].items():
        assert monitor.sites[site_name].site.fan_out == fan_out
    feeding = {name: counts for name, counts in monitor.sites.items() if counts.site.feeds == "weights"}
    linear = {name for name in monitor.sites if name.split(".")[-1] == "input_node"}
    assert feeding.keys() == linear
    synapses = sum(counts.neurons * counts.site.fan_out for counts in feeding.values())
    spikes = sum(counts.spikes * counts.site.fan_out for counts in feeding.values())
    assert monitor.spikes_per_neuron == pytest.approx(spikes / synapses)
    assert len({counts.spikes_per_neuron for counts in feeding.values()}) > 1


def test_counts_add_up_over_calls(snn: PreTrainedModel) -> None:
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
        once = counts_of(monitor)
        run(snn, "temporal", input_ids=token_ids())
    assert counts_of(monitor) == {name: (2 * neurons, 2 * spikes) for name, (neurons, spikes) in once.items()}


def test_only_inside_the_context(snn: PreTrainedModel) -> None:
    monitor = SpikeMonitor(snn)
    run(snn, "temporal", input_ids=token_ids())
    assert set(counts_of(monitor).values()) == {(0, 0)}
    assert monitor.spikes_per_neuron == 0
    with monitor:
        run(snn, "temporal", input_ids=token_ids())
    counts = counts_of(monitor)
    run(snn, "temporal", input_ids=token_ids())
    assert counts_of(monitor) == counts


def test_outputs_are_the_same(snn: PreTrainedModel) -> None:
    """Up to the order of summation: layers that nobody watches run all of their populations in one kernel."""
    for execution in EXECUTIONS:
        expected = run(snn, execution, input_ids=token_ids())[0]
        with SpikeMonitor(snn):
            torch.testing.assert_close(run(snn, execution, input_ids=token_ids())[0], expected, rtol=0, atol=1e-12)


def test_nothing_stays_after_an_error(snn: PreTrainedModel) -> None:
    with pytest.raises(IndexError), SpikeMonitor(snn):
        run(snn, "temporal", input_ids=token_ids() + 1000)
    for _, site in named_sites(snn):
        assert not site.node.count_spikes
        assert site.node.recorder is None
        assert site.node.spike_count is None


def test_no_spikes_where_nothing_reaches_a_threshold() -> None:
    model = las_sj.convert(MODELS["gpt2"](), las_sj.LASConfig(time_steps=4), [{"input_ids": token_ids()}])
    node = model.get_submodule("lm_head.input_node")
    for parameter in node.parameters():
        parameter.data.fill_(1e6)
    with SpikeMonitor(model) as monitor:
        run(model, "temporal", input_ids=token_ids())
    assert monitor.sites["lm_head.input_node"].spikes == 0
    assert monitor.sites["lm_head.input_node"].neurons == 3 * 10 * 32


def test_not_converted() -> None:
    with pytest.raises(ValueError, match="GPT2LMHeadModel is not a converted model"):
        SpikeMonitor(MODELS["gpt2"]())


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_heads_are_not_taken_for_tokens(snn: PreTrainedModel, execution: str) -> None:
    """With as many tokens as heads (4, or 2 of keys): live neurons of attention are still those of tokens."""
    heads = {"query_node": 4, "key_node": 2 if snn.config.model_type == "llama" else 4}
    for length in (4, 2):
        mask = torch.ones(3, length, dtype=torch.long)
        mask[1, -1] = 0
        with SpikeMonitor(snn) as monitor:
            run(snn, execution, input_ids=token_ids(3, length), attention_mask=mask)
        for node, count in heads.items():
            found = [site.neurons for name, site in monitor.sites.items() if name.endswith(node)]
            assert found == [count * 8 * int(mask.sum())] * 2


def test_synaptic_operations_by_hand(snn: PreTrainedModel) -> None:
    """Operands of attention: each spike meets the tokens that its token meets."""
    mask = padding_mask("right")
    pairs = attended(snn, mask)
    with SpikeMonitor(snn, sample=None) as monitor, trains_of(snn) as trains:
        run(snn, "temporal", input_ids=token_ids(), attention_mask=mask)
    groups = snn.config.num_attention_heads // getattr(
        snn.config, "num_key_value_heads", snn.config.num_attention_heads
    )
    for name, train in trains.items():
        fired = (train != 0).sum(0)
        partners = {
            "query_node": pairs.sum(2)[:, None, :, None],
            "key_node": groups * pairs.sum(1)[:, None, :, None],
            "value_node": groups * pairs.sum(1)[:, None, :, None],
        }[name.rpartition(".")[2]]
        counts = monitor.sites[name]
        assert counts.synaptic_operations == int((fired * partners).sum())
        assert counts.synapses == int(partners.expand(fired.shape).sum())
        assert counts.synaptic_operations > 0


@contextmanager
def trains_of(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """The trains of queries, keys and values."""
    trains: dict[str, Tensor] = {}
    nodes = {
        name: node for name, node in coders(model).items() if name.endswith(("query_node", "key_node", "value_node"))
    }
    handles = [
        node.register_forward_hook(lambda module, args, train, name=name: trains.__setitem__(name, train))
        for name, node in nodes.items()
    ]
    yield trains
    for handle in handles:
        handle.remove()


def test_sampled_statistics_are_near_the_exact_ones(snn: PreTrainedModel) -> None:
    with SpikeMonitor(snn, sample=None) as exact:
        run(snn, "accumulated", input_ids=token_ids())
    with SpikeMonitor(snn, sample=128) as sampled:
        for _ in range(40):
            run(snn, "accumulated", input_ids=token_ids())
    for name, counts in exact.sites.items():
        trains = sampled.sites[name].trains
        assert 0 < trains.neurons <= (4 + 5) * 128  # the first four windows, and every eighth
        assert trains.firing_rate == pytest.approx(counts.trains.firing_rate, abs=0.08)
        assert trains.silent == pytest.approx(counts.trains.silent, abs=0.08)


@pytest.mark.parametrize("theta", [1.0, torch.full((8,), 1.0)], ids=["one threshold", "one per channel"])
def test_a_sample_keeps_no_window(theta: float | Tensor) -> None:
    """What waits to be looked at is a copy: windows are large, and there are many."""
    statistics = TrainStatistics(OATNode(theta, theta * 4, T), sample=16)
    window = np.ones((4, 512, 8), dtype=np.float32)
    statistics.add(torch.from_numpy(window), None)
    kept = weakref.ref(window)
    del window
    assert kept() is None
    assert 0 < statistics.neurons <= 16


def test_statistics_of_trains_agree_between_executions(snn: PreTrainedModel) -> None:
    monitors = []
    for execution in EXECUTIONS:
        with SpikeMonitor(snn, sample=None) as monitor:
            run(snn, execution, input_ids=token_ids(), attention_mask=padding_mask("left"))
        monitors.append(monitor)
    for name, temporal in monitors[0].sites.items():
        accumulated = monitors[1].sites[name]
        assert temporal.trains.firing_rate == accumulated.trains.firing_rate
        assert temporal.trains.levels == accumulated.trains.levels
        assert temporal.trains.saturated == accumulated.trains.saturated
        assert temporal.synaptic_operations == accumulated.synaptic_operations


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_positional_arguments_count_the_same(snn: PreTrainedModel, execution: str) -> None:
    mask = padding_mask("right")
    las_sj.set_execution(snn, execution)
    counts = []
    for args, kwargs in (((token_ids(), mask), {}), ((token_ids(),), {"attention_mask": mask})):
        if snn.config.model_type == "gpt2" and len(args) == 2:
            args, kwargs = (token_ids(), None, mask), {}  # its second argument is the cache
        with torch.no_grad(), SpikeMonitor(snn) as monitor:
            snn(*args, **kwargs)
        counts.append((monitor.tokens, monitor.samples, monitor.spikes_per_neuron, counts_of(monitor)))
    assert counts[0] == counts[1]
    assert counts[0][0] == int(mask.sum())


def test_calls_of_the_model_inside(snn: PreTrainedModel) -> None:
    inner = snn.base_model
    with torch.no_grad(), SpikeMonitor(snn) as monitor:
        inner(input_ids=token_ids(), attention_mask=padding_mask("right"))
        snn(input_ids=token_ids())
    assert (monitor.tokens, monitor.samples) == (int(padding_mask("right").sum()) + 30, 6)


def test_a_call_that_fails_counts_no_tokens(snn: PreTrainedModel) -> None:
    with SpikeMonitor(snn) as monitor:
        with pytest.raises(IndexError):
            snn(input_ids=token_ids() + 1000)
        assert (monitor.tokens, monitor.samples) == (0, 0)


def test_one_monitor_at_a_time(snn: PreTrainedModel) -> None:
    with SpikeMonitor(snn) as outer:
        with pytest.raises(ValueError, match="another monitor counts this model already"), SpikeMonitor(snn):
            pass
        run(snn, "accumulated", input_ids=token_ids())
    assert outer.tokens == 30
    assert all(counts.neurons for counts in outer.sites.values())


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_inputs_out_of_range_of_earlier_calls_are_not_counted(execution: str) -> None:
    snn = convert_tiny(MODELS["llama"]())
    node = snn.model.layers[0].self_attn.input_node
    node.theta_outlier.data.mul_(0.1)
    node.theta_normal.data.clamp_(max=float(node.theta_outlier))
    counts = []
    for _ in range(2):
        with SpikeMonitor(snn) as monitor:
            run(snn, execution, input_ids=token_ids())
        counts.append(monitor.sites["model.layers.0.self_attn.input_node"].out_of_range)
        run(snn, execution, input_ids=token_ids())  # unmonitored: counted by the node alone
        assert node.out_of_range == counts[0] > 0
    assert counts[0] == counts[1]
