"""The warning about inputs out of range: when it comes, how often, and what it says."""

import copy
import threading
import warnings
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from tiny_models import EXECUTIONS, Model, bert, convert_tiny, llama, run, token_ids
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaMLP

import las_sj
from las_sj import OutOfRangeWarning
from las_sj.models import execution_of, named_sites
from las_sj.models.call import Call, under_way
from las_sj.models.execution import Execution
from las_sj.models.layers.activation import SpikingActivation
from las_sj.models.layers.attention import SpikingAttentionCore
from las_sj.models.layers.gated_mlp import SpikingGatedMLP
from las_sj.models.layers.linear import FedLinear, SpikingLinear
from las_sj.models.layers.spiking_layer import become
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.out_of_range import BLOCK, Ranges, _fetched
from las_sj.neurons import HGNode, MultiThresholdCode, OATNode, WindowCounts, WindowNode

SITE = "model.layers.1.self_attn.input_node"
executions = pytest.mark.parametrize("execution", EXECUTIONS)


@pytest.fixture(scope="module")
def converted() -> Model:
    return convert_tiny(llama())


@pytest.fixture
def snn(converted: Model) -> Model:
    return copy.deepcopy(converted)


def narrow(snn: Model, site: str = SITE, factor: float = 0.1) -> None:
    """Make the range of one population too small."""
    for theta in snn.get_submodule(site).parameters():
        theta.data.mul_(factor)


def twice(snn: Model, execution: str) -> None:
    for _ in range(2):
        run(snn, execution, input_ids=token_ids())


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestWarning:
    @executions
    def test_none_in_range(self, snn: Model, execution: str) -> None:
        """A warning is an error in these tests."""
        run(snn, execution, input_ids=token_ids())
        assert not execution_of(snn).ranges.said
        assert all(site.node.counts.inputs > 0 for _, site in named_sites(snn))

    @executions
    def test_once_a_model(self, snn: Model, execution: str) -> None:
        narrow(snn)
        other = copy.deepcopy(snn)
        with pytest.warns(OutOfRangeWarning, match=rf"inputs of {SITE} lie outside") as said:
            twice(snn, execution)
        assert len(said) == 1
        with pytest.warns(OutOfRangeWarning):
            run(other, execution, input_ids=token_ids())

    @executions
    def test_what_it_says(self, snn: Model, execution: str) -> None:
        """The worst population, its share, and what to do, in one line."""
        narrow(snn, factor=0.02)
        narrow(snn, "lm_head.input_node", 0.3)
        with pytest.warns(OutOfRangeWarning) as said:
            run(snn, execution, input_ids=token_ids())
        node, text = snn.get_submodule(SITE), str(said[0].message)
        share = node.out_of_range / node.counts.inputs
        assert f"{node.out_of_range:,} of {node.counts.inputs:,} inputs of {SITE}" in text
        assert f"({share:.2%})" in text
        assert "at 1 more" in text
        assert "calibration data" in text
        assert "headroom" in text
        assert "\n" not in text

    def test_is_a_user_warning(self) -> None:
        assert issubclass(OutOfRangeWarning, UserWarning)
        assert las_sj.OutOfRangeWarning is OutOfRangeWarning

    def test_without_fused_kernels(self, snn: Model) -> None:
        narrow(snn, "model.layers.0.mlp.up_node")
        snn.get_submodule("model.layers.0.mlp.up_node").backend = "torch"
        with pytest.warns(OutOfRangeWarning, match=r"layers\.0\.mlp\.up_node"):
            run(snn, "accumulated", input_ids=token_ids())

    @executions
    def test_layers_called_by_themselves(self, snn: Model, execution: str) -> None:
        las_sj.set_execution(snn, execution)
        with torch.no_grad():
            state = snn.model(token_ids()).last_hidden_state
            with pytest.warns(OutOfRangeWarning, match=r"lm_head\.input_node"):
                snn.lm_head(state * 50)

    def test_errors_leave_the_model_usable(self, snn: Model) -> None:
        """Where warnings are errors, the call has ended properly."""
        expected = run(snn, "accumulated", input_ids=token_ids()).logits
        narrow(snn)
        with pytest.raises(OutOfRangeWarning):
            run(snn, "temporal", input_ids=token_ids())
        narrow(snn, factor=10.0)
        found = run(snn, "accumulated", input_ids=token_ids()).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_once_for_all_threads(self, snn: Model) -> None:
        narrow(snn)
        las_sj.set_execution(snn, "accumulated")
        ids, start = token_ids(), threading.Barrier(4)

        def call() -> None:
            start.wait()
            with torch.no_grad():
                snn(input_ids=ids)

        threads = [threading.Thread(target=call) for _ in range(4)]
        with pytest.warns(OutOfRangeWarning) as said:
            run_all(threads)
        assert len(said) == 1
        assert snn.get_submodule(SITE).counts.inputs == 4 * ids.numel() * snn.config.hidden_size


class TestCalibration:
    def test_says_nothing(self, snn: Model) -> None:
        narrow(snn)
        with las_sj.Calibration(snn, las_sj.LASConfig()), torch.no_grad():
            snn(token_ids(4, 24))
        run(snn, "accumulated", input_ids=token_ids(4, 24))

    def test_is_a_new_start(self, snn: Model) -> None:
        """Who followed the warning hears of what is still wrong."""
        narrow(snn)
        with pytest.warns(OutOfRangeWarning):
            run(snn, "accumulated", input_ids=token_ids())
        with las_sj.Calibration(snn, las_sj.LASConfig()), torch.no_grad():
            snn(token_ids(4, 24))
        run(snn, "accumulated", input_ids=token_ids(4, 24))
        narrow(snn)
        with pytest.warns(OutOfRangeWarning):
            run(snn, "accumulated", input_ids=token_ids())


class TestShares:
    def ranges(self, node: WindowNode) -> Ranges:
        ranges = Ranges()
        ranges.watch([("site", node)])
        return ranges

    @pytest.mark.parametrize(
        ("beyond", "inputs", "warns"), [(1, 20, False), (2, 20, True), (10, 10_000, False), (11, 10_000, True)]
    )
    def test_more_than_one_in_a_thousand(self, beyond: int, inputs: int, warns: bool) -> None:
        node = OATNode(1.0, 2.0, 4)
        ranges = self.ranges(node)
        node.counts.take(WindowCounts(out_of_range=beyond), inputs)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ranges.check()
        assert bool(said) == warns

    def test_few_at_a_time_add_up(self) -> None:
        node = OATNode(1.0, 2.0, 4)
        ranges = self.ranges(node)
        node.counts.take(WindowCounts(out_of_range=1), 500)
        ranges.check()
        node.counts.take(WindowCounts(out_of_range=1), 500)
        with pytest.warns(OutOfRangeWarning, match="2 of 1,000"):
            ranges.check()

    def test_shows_after_many_calls(self) -> None:
        """A million inputs in range do not hide those that come later."""
        node = OATNode(1.0, 2.0, 4)
        ranges = self.ranges(node)
        for _ in range(20):
            node.counts.take(WindowCounts(), BLOCK)
            ranges.check()
        node.counts.take(WindowCounts(out_of_range=100), 100)
        with pytest.warns(OutOfRangeWarning, match="100 of 100"):
            ranges.check()

    def test_reset_of_counts(self) -> None:
        node = OATNode(1.0, 2.0, 4)
        ranges = self.ranges(node)
        node.counts.take(WindowCounts(out_of_range=100), 100)
        node.reset_counts()
        ranges.check()
        assert node.counts.recent == (0, 0)

    @pytest.mark.parametrize("function", ["reciprocal", "rsqrt", "square"])
    def test_powers_go_on(self, function: str) -> None:
        """Further octaves are as precise, so nobody is warned."""
        node = HGNode(function, 16)
        x = torch.full((2000,), 2.0**25)
        torch.testing.assert_close(node(x), node.exact(x), rtol=1e-5, atol=0.0)
        assert node.out_of_range == node.counts.inputs == 2000
        self.ranges(node).check()

    def test_rounding_above_the_largest_score(self) -> None:
        """In half precision a score less the largest one may be above 0; its exponential is 1."""
        node = HGNode("exp", 16)
        assert torch.equal(node(torch.full((2000,), 0.01)), node(torch.zeros(2000)))
        assert node.out_of_range == 2000
        self.ranges(node).check()

    @pytest.mark.parametrize("function", ["gelu", "silu", "exp", "tanh"])
    def test_flat_tails_are_in_range(self, function: str) -> None:
        node = HGNode(function, 16)
        node(torch.full((2000,), -1e4))
        assert node.out_of_range == 0

    def test_slopes_beyond_the_range_are_said(self) -> None:
        node = HGNode("gelu", 16)
        ranges = self.ranges(node)
        node(torch.full((2000,), 1e3))
        with pytest.warns(OutOfRangeWarning, match="2,000 of 2,000"):
            ranges.check()

    def test_names_are_those_of_named_sites(self, snn: Model) -> None:
        watched = dict(execution_of(snn).ranges.nodes)
        sites = {name: site for name, site in named_sites(snn) if site.upper_bound is None}
        assert watched == {name: site.node for name, site in sites.items() if not site.node.extends}
        exact = ("square_node", "rsqrt_node", "reciprocal_node", "exp_node")
        assert not any(name.endswith(exact) for name in watched)


T = 8


def factory() -> NeuronFactory:
    return NeuronFactory(MultiThresholdCode(T, 15))


def linear(execution: Execution) -> nn.Module:
    layer = nn.Linear(6, 5)
    become(layer, SpikingLinear, factory(), execution, PretrainedConfig())
    return layer


def gated(execution: Execution) -> nn.Module:
    layer = LlamaMLP(PretrainedConfig(hidden_size=6, intermediate_size=6, mlp_bias=False, hidden_act="silu"))
    for name, mixin in (("gate_proj", FedLinear), ("up_proj", FedLinear), ("down_proj", SpikingLinear)):
        become(getattr(layer, name), mixin, factory(), execution, PretrainedConfig())
    become(layer.act_fn, SpikingActivation, factory(), execution, PretrainedConfig())
    become(layer, SpikingGatedMLP, factory(), execution, PretrainedConfig())
    return layer


class Attention(nn.Module):
    """Heads of queries, keys and values that are the input itself, padding of which is masked."""

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self.core = SpikingAttentionCore()
        self.core.__dict__["execution"] = execution
        self.core.equip(factory())

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (2, 3)).transpose(1, 2)
        hidden = torch.zeros(len(x), 1, 1, x.shape[1])
        hidden[::2, ..., :8] = -1e9  # the first of two sequences, at each step
        return self.core(heads, heads, heads, hidden, 1.0)


class TestPadding:
    """Twelve tokens, of which the first eight of one sequence are padding and far out of range."""

    @executions
    @pytest.mark.parametrize("make", [linear, gated, Attention])
    @pytest.mark.parametrize("backend", ["auto", "torch"])
    def test_is_not_counted(self, execution: str, make: Any, backend: str) -> None:
        network = Execution(T)
        network.step_mode = "m" if execution == "temporal" else "s"
        torch.manual_seed(0)
        layer = make(network)
        nodes = [node for node in layer.modules() if isinstance(node, WindowNode) and not node.extends]
        for node in nodes:
            node.backend = backend
            for theta in node.parameters():
                theta.data.fill_(4.0)
        functional.set_step_mode(layer, network.step_mode)
        x = 0.1 * torch.randn(2, 12, 6)
        x[0, :8] = 1e4
        mask = torch.ones(2, 12, dtype=torch.bool)
        mask[0, :8] = False
        beyond = []
        for token_mask in (mask, None):
            call = Call(network.identity, layer, execution == "temporal", T, token_mask=token_mask)
            for node in nodes:
                node.reset_counts()
            with torch.no_grad(), under_way(call):
                layer((x / T).repeat(T, 1, 1) if execution == "temporal" else x)
            beyond.append(sum(node.out_of_range for node in nodes))
        assert beyond[0] == 0 < beyond[1]

    @executions
    def test_inputs_are_those_of_tokens(self, execution: str) -> None:
        snn = convert_tiny(bert())
        mask = torch.ones(2, 12, dtype=torch.long)
        mask[0, 6:] = 0
        for _, site in named_sites(snn):
            site.node.reset_counts()
        run(snn, execution, input_ids=token_ids(2, 12), attention_mask=mask)
        assert snn.encoder.layer[0].attention.self.input_node.counts.inputs == 18 * snn.config.hidden_size
        assert snn.encoder.layer[0].output.LayerNorm.scale_node.counts.inputs == 18


def test_numbers_of_devices_are_fetched_together() -> None:
    numbers = [3, torch.tensor(5), torch.tensor([7]), 0]
    assert _fetched(numbers) == [3, 5, 7, 0]
