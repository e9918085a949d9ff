"""A network on a chip: two layers by hand to the digit, and a converted model against its monitor and audit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import bert, calibration_batches, convert_tiny, gpt2, llama, padding_mask, token_ids

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.hardware.chip import CHIPS, Chip
from las_sj.hardware.chip_file import ChipFileError
from las_sj.hardware.closed_form import of_loads
from las_sj.hardware.connections import connections_of
from las_sj.hardware.core_loads import core_loads
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.deployment import Deployment, Options, deploy, payload_bits
from las_sj.hardware.errors import ChipError, PlacementError
from las_sj.hardware.estimate import Loads
from las_sj.hardware.fan_outs import FanOuts
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.placement import Layer, Population
from las_sj.hardware.placer import place
from las_sj.hardware.populations import needs_of, weights_of
from las_sj.hardware.quantised_weights import rounded, with_weight_bits
from las_sj.hardware.report import HardwareReport
from las_sj.hardware.routes import currents_of, routes_of
from las_sj.hardware.traffic import by_row, count_traffic, messages_of, spread
from las_sj.models import running

LOIHI = CHIPS["loihi"]


def test_two_layers_by_hand() -> None:
    """Neurons a feed two columns, whose sums drive b and c; b feeds c: each on a core of its own, in a row."""
    chip = Chip("toy", Mesh(4, 1, 1), LOIHI.costs, neurons=2)
    populations = [
        Population("a", 2, ("w",)),
        Population("b", 2, targets=("c",), drivers=("w",)),
        Population("c", 1, drivers=("w",)),
    ]
    placement = place(chip, [Layer("w", 2, 2)], populations)
    assert [piece.core for piece in placement.neurons] == [1, 2, 3]  # the columns of the weights fill core 0
    loads = Loads(placement, routes_of(placement), currents_of(placement), window=2)
    messages = np.array([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]])  # of a, b and c in two steps
    found = loads.of(messages, loads.fan_outs({}))
    assert found.events.tolist() == [[4, 0, 0, 0], [2, 0, 2, 3 + 1 + 1]]  # a: two columns a spike; sums: two and one
    assert found.messages_in.tolist() == [[2, 0, 0, 0], [1, 0, 2, 3 + 1 + 1]]  # c's own spike stays on core 3
    assert found.messages_out.tolist() == [[0, 2, 0, 0], [3, 1, 3, 1]]
    assert found.neurons.tolist() == [2, 2, 2, 1]  # the accumulators of the columns, too
    assert found.hops == 3 + 3 + 2 * 2 + 3  # a goes from core 1 to 0, b from 2 to 3, two sums to core 2, one to 3
    form = of_loads(found, chip.costs)
    assert form.energy_pj["synapse"] == pytest.approx(13 * 35.5)
    assert form.energy_pj["soma"] == pytest.approx(2 * 7 * (51.2 + 21.6) + 7 * 69.3)
    assert form.energy_pj["network"] == pytest.approx(10 * 111.0 + 13 * 3.0)
    first = 2 * (6.0 + 3.7) + 2 * (30.0 + 5.1)  # of core 1, which sends two; core 0 needs 2 · 16 + 4 · 3.8
    second = 2 * (6.0 + 3.7) + 3 * (30.0 + 5.1)  # of core 2, which sends three
    assert form.step_seconds is not None
    assert form.slowest is not None
    assert form.step_seconds == pytest.approx([first * 1e-9 + 1.4e-6, second * 1e-9 + 1.4e-6])  # of four tiles
    assert form.slowest.tolist() == [1, 2]


@pytest.fixture(scope="module")
def snn() -> torch.nn.Module:
    return convert_tiny(gpt2(), time_steps=6, levels=3)


def batch() -> dict[str, torch.Tensor]:
    return {"input_ids": token_ids(1, 8)}


@pytest.fixture(scope="module")
def found(snn: torch.nn.Module) -> Deployment:
    return deploy(snn, [batch()], LOIHI)


def test_messages_and_events_are_those_that_a_monitor_counts(snn: torch.nn.Module, found: Deployment) -> None:
    with SpikeMonitor(snn) as monitor, running(snn, "temporal"):
        snn(**batch())
    sites = monitor.sites
    for name, messages in found.traffic.by_population.items():
        if not hasattr(sites[name].site.node, "gates"):  # HG neurons send biases, too
            assert messages == sites[name].spikes, name
        else:
            assert messages >= sites[name].spikes, name
    feeding = {name: counts for name, counts in sites.items() if counts.site.feeds == "weights"}
    trains = count_traffic(snn, [batch()], found.placement, keep_trains=True).trains
    connections = connections_of(found.placement, trains)
    assert sum(each.synaptic_events for each in connections) == sum(
        counts.spikes * counts.site.fan_out for counts in feeding.values()
    )
    loads = core_loads(connections, LOIHI.mesh)
    assert loads.events.sum() == sum(each.synaptic_events for each in connections)


def test_events_are_the_operations_of_the_monitor_however_calls_are_split(snn: torch.nn.Module) -> None:
    """Those of biases and of sums come on top; lengths differ, and so do live partners."""
    calls = [{"input_ids": token_ids(1, length)} for length in (8, 4, 5)]
    parts = [deploy(snn, [call], LOIHI, Options(context=8)).steps for call in calls]
    whole = deploy(snn, calls, LOIHI, Options(context=8))
    for name in ("events", "messages", "hops"):
        total = sum(getattr(each, name) for each in parts)
        assert getattr(whole.steps, name) == pytest.approx(total, rel=1e-6), name
    operations = sum(
        counts.synaptic_operations + sum((each.fan_out or 0) * counts.spikes for each in counts.site.synapses)
        for counts in whole.traffic.monitor.sites.values()
    )
    windows = whole.traffic.tokens
    sums = sum(each.sums for each in currents_of(whole.placement)) * windows
    spikes = sum(counts.spikes for counts in whole.traffic.monitor.sites.values())
    biases = int(whole.traffic.messages.sum()) - spikes
    assert biases > 0
    assert whole.steps.events == pytest.approx(operations + sums + biases, rel=1e-6)  # HG neurons have a fan-out of 1
    assert sum(whole.messages.values()) == pytest.approx(whole.steps.messages)


def test_data_flow_and_columns(found: Deployment) -> None:
    """Where spikes go in a block of GPT-2: not to the module that follows, but to what reads them."""
    populations = {each.name.removeprefix("transformer.h.0."): each for each in found.placement.populations}
    attention = "attn.las_attention"
    targets = {
        "ln_1.centred_node": {"ln_1.square_node", "ln_1.output_node"},
        f"{attention}.query_node": {f"{attention}.exp_node"},
        f"{attention}.key_node": {f"{attention}.exp_node"},
        f"{attention}.value_node": {"attn.c_proj.input_node"},
        f"{attention}.weight_node": {f"{attention}.reciprocal_node", f"{attention}.probability_node"},
        f"{attention}.probability_node": {"attn.c_proj.input_node"},
        "mlp.act.node": {"mlp.c_proj.input_node"},
        "attn.c_proj.input_node": set(),
    }
    for name, reached in targets.items():
        assert {each.removeprefix("transformer.h.0.") for each in populations[name].targets} == reached, name
    columns = {name.removeprefix("transformer.h.0.") for name in found.placement.columns}
    assert {name for name in columns if not name.startswith("transformer")} == {
        *(f"{attention}.{name}_node" for name in ("query", "key", "value")),
        "mlp.act.node",
    }
    assert populations["ln_2.centred_node"].drivers == ("transformer.h.0.attn.c_proj",)
    later = next(each for each in found.placement.populations if each.name == "transformer.ln_f.centred_node")
    assert {name.rpartition(".")[2] for name in later.drivers} == {"c_proj"}


def test_latency_is_that_of_the_audit(snn: torch.nn.Module, found: Deployment) -> None:
    stages = audit(snn, batch()).stages
    assert (found.stages, found.latency_steps) == (stages, stages * 6)
    mean = found.steps.mean_seconds
    assert mean is not None
    assert found.tokens_per_second is not None
    assert found.latency_seconds == pytest.approx(stages * 6 * mean)
    assert found.tokens_per_second == pytest.approx((1 / (stages * 6 * mean), 1 / (6 * mean)))
    assert found.steps.count == 8 * 6


def test_deploying_leaves_the_model_as_it_was(snn: torch.nn.Module) -> None:
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    las_sj.set_execution(snn, "accumulated")
    logits = snn(**batch()).logits
    deploy(snn, [batch()], LOIHI)
    assert las_sj.models.execution_of(snn).name == "accumulated"
    assert all(torch.equal(before[name], value) for name, value in snn.state_dict().items())
    assert torch.equal(snn(**batch()).logits, logits)


def test_padding_sends_no_messages(snn: torch.nn.Module, found: Deployment) -> None:
    padded = {"input_ids": token_ids(2, 8), "attention_mask": padding_mask("left", 8)[:2]}
    counted = count_traffic(snn, [padded], found.placement)  # type: ignore[arg-type]
    sites = counted.monitor.sites
    spiking = {name: counts for name, counts in sites.items() if not hasattr(counts.site.node, "gates")}
    assert len(spiking) > 10
    for name, counts in spiking.items():
        assert counted.by_population[name] == counts.spikes, name


def test_a_layer_that_a_call_runs_twice() -> None:
    """Its windows take their turn on the same neurons: messages are those of the monitor, none is lost."""
    model = convert_tiny(gpt2(), time_steps=6, levels=3)
    model.config.use_cache = False  # the keys of a layer that runs twice would lie in one place of it
    blocks = model.transformer.h
    blocks[1] = blocks[0]
    found = deploy(model, [batch()], LOIHI)
    with SpikeMonitor(model) as monitor, running(model, "temporal"):
        model(**batch())
    sites = {name: counts for name, counts in monitor.sites.items() if not hasattr(counts.site.node, "gates")}
    assert any(name.startswith("transformer.h.0.") for name in sites)
    for name, counts in sites.items():
        assert found.traffic.by_population[name] == counts.spikes, name


@pytest.mark.parametrize("build", [gpt2, llama, bert])
def test_populations_at_another_context(build: object) -> None:
    """What is extended from a short call is what a long one shows, and nearly as many live partners."""
    model = convert_tiny(build(), time_steps=4)  # type: ignore[operator]
    layers, long = needs_of(model, {"input_ids": token_ids(1, 12)})
    same, extended = needs_of(model, {"input_ids": token_ids(1, 6)}, context=12)
    assert same == layers
    assert [replace(each, fan_out=1.0) for each in extended] == [replace(each, fan_out=1.0) for each in long]
    assert [each.fan_out for each in extended] == pytest.approx([each.fan_out for each in long], rel=0.3)


def test_fewer_stages_and_lines_show(snn: torch.nn.Module, found: Deployment) -> None:
    short = convert_tiny(gpt2(), time_steps=6, levels=3, fewer_stages=True, hg_lines=32)
    other = deploy(short, [batch()], LOIHI)
    assert other.latency_steps < found.latency_steps
    assert sum(each.table_bits for each in other.placement.populations) < sum(
        each.table_bits for each in found.placement.populations
    )


def test_costs_that_nobody_published_are_never_zero(snn: torch.nn.Module) -> None:
    with pytest.raises(PlacementError, match=r"no core of truenorth holds one neuron of .*exp_node, .*--hg-lines"):
        deploy(snn, [batch()], "truenorth")  # 65,536 bits hold no table of exp
    small = convert_tiny(gpt2(), time_steps=6, levels=3, hg_lines=32)
    for name in ("loihi2", "truenorth", "spinnaker2"):
        report = HardwareReport("tiny", "a sample", deploy(small, [batch()], Chip.preset(name)))
        rows = dict(report.summary_rows())
        assert rows["energy per token on the chip"].startswith("not published (synapse not published")
        assert rows["time of a step"] == rows["tokens per second"] == "not published"
        assert "leakage and static power" in rows["not in it"]
        energies = report.to_dict()["per_token"]["energy_pj"]
        assert [*energies.values()] == [None] * len(energies)
        assert report.to_dict()["latency_seconds"] is None
        assert "0 µJ" not in report.to_markdown().split("energy without a chip")[0]


def test_payloads_and_sources_are_in_every_report(found: Deployment) -> None:
    report = HardwareReport("tiny", "a sample", found)
    rows = dict(report.summary_rows())
    assert rows["spikes on this chip"] == (
        "graded, 3 bits needed, 1 there: counted as if a graded spike cost what a binary one does"
    )
    binary = found.steps.energy_pj["synapse"]
    assert binary is not None
    assert found.payload_pj is not None
    assert binary < found.payload_pj < 3 * binary
    assert all(row[2] for row in found.chip.figures() if row[1] != "not published")
    assert rows["products of two trains"] == "it has none: assumed"


def test_a_network_of_rate_codes() -> None:
    model = las_sj.convert(gpt2(), las_sj.FASConfig(levels=4, time_steps=3), calibration_batches())
    made = deploy(model, [batch()], LOIHI)
    report = dict(HardwareReport("fas", "a sample", made).summary_rows())
    assert report["spikes on this chip"] == "binary, as it has them"
    assert made.steps.messages > 0
    assert made.latency_steps == las_sj.models.execution_of(model).lanes.presented


def test_weights_that_no_spikes_come_to_are_named() -> None:
    model = las_sj.convert(gpt2(), las_sj.FASConfig(levels=4, time_steps=3), calibration_batches())
    made = deploy(model, [batch()], LOIHI)
    placed = sum(layer.synapses for layer in made.placement.layers)
    assert placed < made.all_synapses == sum(layer.synapses for layer in weights_of(model))
    rows = dict(HardwareReport("fas", "a sample", made).summary_rows())
    assert rows["not placed"].startswith(f"{100 * (1 - placed / made.all_synapses):.0f} % of the weights")


def test_a_model_converted_by_operations() -> None:
    model = convert_tiny(gpt2(), time_steps=4, by_operations=True)
    made = deploy(model, [batch()], LOIHI)
    assert sum(layer.synapses for layer in made.placement.layers) == made.all_synapses
    assert "not placed" not in dict(HardwareReport("tiny", "a sample", made).summary_rows())


def test_spikes_that_several_operations_read() -> None:
    """Q, K and V read those of one population, which reach the columns of all three."""
    model = convert_tiny(llama(), time_steps=4, by_operations=True)
    counting = FanOuts()
    with SpikeMonitor(model) as monitor, running(model, "temporal"):
        model(**batch())
        found = counting.of_call(monitor)
        assert counting.of_call(monitor) == {}  # nothing since
    layers = model.model.layers[0].self_attn
    columns = sum(len(layer.weight) for layer in (layers.q_proj, layers.k_proj, layers.v_proj))
    assert found["model.layers.0.self_attn.q_proj.spiking.linear_1"] == pytest.approx(columns)


def test_what_does_not_fit(snn: torch.nn.Module) -> None:
    small = replace(LOIHI, mesh=Mesh(1, 1, 2))
    with pytest.raises(PlacementError, match=r"needs \d+ cores, which are \d+ chips of loihi .*give --chips"):
        deploy(snn, [batch()], small)
    with pytest.raises(ChipError, match="chip must be one of loihi, loihi2, spinnaker2, truenorth"):
        deploy(snn, [batch()], "loihi3")
    with pytest.raises(ValueError, match="weight_bits must be from 2 to 32, got 1"):
        Options(weight_bits=1)


def test_weights_of_few_bits(snn: torch.nn.Module) -> None:
    weight = torch.tensor([[1.0, -0.5, 0.26], [0.0, 0.0, 0.0]])
    assert torch.equal(rounded(weight, 3), torch.tensor([[1.0, -2 / 3, 1 / 3], [0.0, 0.0, 0.0]]).float())
    assert torch.equal(rounded(weight.t(), 3, transposed=True), rounded(weight, 3).t())
    wide = with_weight_bits(snn, 24)  # type: ignore[arg-type]
    assert torch.allclose(wide(**batch()).logits, snn(**batch()).logits, atol=1e-3)


def test_rows_and_slices() -> None:
    fired = torch.zeros(2, 1, 3, 4, 5)  # [T, B, heads, S, C]
    fired[0, 0, 2, 1, 4] = fired[1, 0, 0, 1, 0] = fired[1, 0, 0, 3, 0] = 1
    assert by_row(fired).shape == (2, 4, 15)
    assert by_row(fired)[0, 1, 14] == 1
    counts = messages_of(fired, [5, 15])
    assert counts[0].tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert counts[1].tolist() == [[0, 0], [1, 0], [0, 0], [1, 0]]
    assert messages_of(fired, [10, 30]).equal(counts)  # placed for twice the context
    assert messages_of(fired, [15]).equal(counts.sum(-1, keepdim=True))
    for columns in (1, 2, 4, 6, 9):
        assert spread(counts.numpy(), columns).sum() == pytest.approx(3)
        assert spread(counts.numpy(), columns).shape == (2, columns, 2)
    for shape, rows in (((2, 3, 7), (2, 3, 7)), ((2, 3), (2, 3, 1)), ((2, 3, 4, 5), (2, 12, 5))):
        assert by_row(torch.ones(shape)).shape == rows
        assert messages_of(torch.ones(shape), [rows[-1]]).tolist() == [[[rows[-1]]] * rows[1]] * 2


def test_chips(tmp_path: Path) -> None:
    costs = EventCosts("a test", synaptic_event_pj=1.0)
    assert "not published" in str(Chip("c", Mesh(1, 1, 1), costs).figures())
    assert Chip.named("loihi") is LOIHI
    with pytest.raises(ChipError, match=r"or a SANA-FE architecture file, got '/nowhere'"):
        Chip.named("/nowhere")
    with pytest.raises(ChipFileError, match=r"/nowhere\.yaml cannot be read"):
        Chip.named("/nowhere.yaml")


def test_bits_of_a_payload(snn: torch.nn.Module) -> None:
    nodes = {site.node.code.levels for _, site in las_sj.models.named_sites(snn) if hasattr(site.node, "code")}
    assert nodes >= {3}
    binary = convert_tiny(gpt2(), time_steps=4, levels=1)
    assert {payload_bits(site.node) for _, site in las_sj.models.named_sites(binary)} == {1}
