"""Spikes and synaptic operations of a two-layer network, counted by a plain simulation, one neuron at a time."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from tiny_models import EXECUTIONS, convert_tiny, gpt2, llama, run, token_ids
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor, audit
from las_sj.analysis.energies.operations import Operations, count_operations
from las_sj.models import named_sites
from las_sj.neurons import HGNode

T, LEVELS = 6, 3
NORMAL, OUTLIER = 0.7, 3.1
HIDDEN, INNER = 4, 6
EPSILON = 1e-6
TOKENS = [1, 2, 3]

Vector = list[float]


def chosen_llama() -> Any:
    """Two layers, one head, every weight a chosen number."""
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": 1}
    ann = llama(num_hidden_layers=2, head_dim=HIDDEN, num_key_value_heads=1, rms_norm_eps=EPSILON, **sizes)
    with torch.no_grad():
        for number, parameter in enumerate(ann.parameters()):
            values = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((torch.sin(1.7 * values + number) * 0.8).view(parameter.shape))
    return ann


def chosen_snn() -> Any:
    snn = convert_tiny(chosen_llama(), time_steps=T, levels=LEVELS)
    for _, site in named_sites(snn):
        if not isinstance(site.node, HGNode):
            normal, outlier = site.node.parameters()
            normal.data.fill_(NORMAL)
            outlier.data.fill_(OUTLIER)
    return snn.double()


class Simulation:
    """The converted network neuron by neuron, in plain Python; counts spikes and synaptic operations by operator."""

    def __init__(self, snn: PreTrainedModel) -> None:
        self.snn = snn
        self.operations: Counter[str] = Counter()
        self.spikes: Counter[str] = Counter()
        self.macs: Counter[str] = Counter()

    def weight(self, name: str) -> list[Vector]:
        return self.snn.get_parameter(f"{name}.weight").tolist()

    def code(self, site: str, v: float) -> tuple[float, int]:
        """The multi-threshold neuron as the paper words it, thresholds nearest to the potential."""
        node = self.snn.get_submodule(site)
        normal, outlier = (float(threshold) for threshold in node.parameters())
        alpha = normal if abs(v) <= normal else outlier
        emitted, spikes = 0.0, 0
        for t in range(1, T + 1):
            theta = alpha * 2.0**-t
            if abs(v) < (theta / 2 if t == T else theta * (1 - 1 / (4 * LEVELS))):
                continue
            top = 2 * LEVELS if t == 1 else 2 * LEVELS - 1
            level = min(range(LEVELS, top + 1), key=lambda j, v=v, theta=theta: abs(abs(v) - theta * j / LEVELS))
            spike = math.copysign(theta * level / LEVELS, v)
            v, emitted, spikes = v - spike, emitted + spike, spikes + 1
        self.spikes[site] += spikes
        return emitted, spikes

    def gate(self, site: str, v: float) -> tuple[float, int]:
        """An HG neuron: its train, and how many steps of it carry more than the bias."""
        node = self.snn.get_submodule(site)
        assert isinstance(node, HGNode)
        node.step_mode = "m"
        train = node(torch.tensor([[v]], dtype=torch.float64))[:, 0]
        train[0] -= node.spike_scale(torch.tensor([v], dtype=torch.float64))[1][0]
        spikes = int((train.abs() > 1e-12).sum())
        self.spikes[site] += spikes
        return float(node(torch.tensor([[v]], dtype=torch.float64)).sum()), spikes

    def linear(self, name: str, coded: list[tuple[float, int]]) -> Vector:
        weight = self.weight(name)
        self.operations[name] += len(weight) * sum(spikes for _, spikes in coded)
        self.macs[name] += len(weight) * len(coded)
        return [sum(w * value for w, (value, _) in zip(row, coded, strict=True)) for row in weight]

    def norm(self, name: str, x: Vector) -> Vector:
        coded = [self.code(f"{name}.centred_node", value) for value in x]
        squares = [self.gate(f"{name}.square_node", value) for value, _ in coded]
        variance = sum(value for value, _ in squares) / len(x) + EPSILON
        root, root_spikes = self.gate(f"{name}.rsqrt_node", variance)
        scale, scale_spikes = self.code(f"{name}.scale_node", root)
        normed = [self.code(f"{name}.output_node", value * scale) for value, _ in coded]
        self.operations[name] += 2 * sum(spikes for _, spikes in coded) + sum(spikes for _, spikes in squares)
        self.operations[name] += root_spikes + len(x) * scale_spikes + sum(spikes for _, spikes in normed)
        gains = self.snn.get_parameter(f"{name}.weight").tolist()
        return [gain * value for gain, (value, _) in zip(gains, normed, strict=True)]

    def rotated(self, x: Vector, position: int) -> Vector:
        half = len(x) // 2
        base = self.snn.config.rope_parameters["rope_theta"]
        angles = [position * base ** (-2 * index / len(x)) for index in range(half)]
        rotation = [-value for value in x[half:]] + x[:half]
        return [
            value * math.cos(angle) + other * math.sin(angle)
            for value, other, angle in zip(x, rotation, angles * 2, strict=True)
        ]

    def attention(self, name: str, hidden: list[Vector]) -> list[Vector]:
        core = f"{name}.las_attention"
        coded = [[self.code(f"{name}.input_node", value) for value in x] for x in hidden]
        queries, keys, values = (
            [self.linear(f"{name}.{part}_proj", spikes) for spikes in coded] for part in ("q", "k", "v")
        )
        scaling = HIDDEN**-0.5
        queries = [[scaling * v for v in self.rotated(q, i)] for i, q in enumerate(queries)]
        keys = [self.rotated(k, i) for i, k in enumerate(keys)]
        q_coded = [[self.code(f"{core}.query_node", v) for v in q] for q in queries]
        k_coded = [[self.code(f"{core}.key_node", v) for v in k] for k in keys]
        v_coded = [[self.code(f"{core}.value_node", v) for v in value] for value in values]
        outputs = []
        for i, q in enumerate(q_coded):  # causal: query i meets keys 0 … i
            met = i + 1
            self.operations[f"{name}.scores"] += met * sum(spikes for _, spikes in q)
            self.macs[f"{name}.scores"] += met * HIDDEN
            self.macs[f"{name}.values"] += met * HIDDEN
            scores = [sum(a * b for (a, _), (b, _) in zip(q, k, strict=True)) for k in k_coded[:met]]
            exponentials = [self.gate(f"{core}.exp_node", score - max(scores)) for score in scores]
            weights = [self.code(f"{core}.weight_node", value) for value, _ in exponentials]
            inverse, inverse_spikes = self.gate(f"{core}.reciprocal_node", sum(value for value, _ in weights))
            scale, scale_spikes = self.code(f"{core}.scale_node", inverse)
            shares = [self.code(f"{core}.probability_node", value * scale) for value, _ in weights]
            self.operations[f"{name}.softmax"] += sum(spikes for _, spikes in exponentials) + inverse_spikes
            self.operations[f"{name}.softmax"] += 2 * sum(spikes for _, spikes in weights) + met * scale_spikes
            self.operations[f"{name}.values"] += HIDDEN * sum(spikes for _, spikes in shares)
            outputs.append(
                [sum(p * v[c][0] for (p, _), v in zip(shares, v_coded[:met], strict=True)) for c in range(HIDDEN)]
            )
        for j, (k, v) in enumerate(zip(k_coded, v_coded, strict=True)):  # key j meets queries j … S−1
            met = len(hidden) - j
            self.operations[f"{name}.scores"] += met * sum(spikes for _, spikes in k)
            self.operations[f"{name}.values"] += met * sum(spikes for _, spikes in v)
        projection = f"{name}.o_proj"
        return [self.linear(projection, [self.code(f"{projection}.input_node", value) for value in x]) for x in outputs]

    def mlp(self, name: str, x: Vector) -> Vector:
        coded = [self.code(f"{name}.input_node", value) for value in x]
        gate, up = (self.linear(f"{name}.{part}_proj", coded) for part in ("gate", "up"))
        active = [self.gate(f"{name}.act_fn.node", value) for value in gate]
        self.operations[f"{name}.act_fn"] += sum(spikes for _, spikes in active)
        gates = [self.code(f"{name}.gate_node", value) for value, _ in active]
        ups = [self.code(f"{name}.up_node", value) for value in up]
        self.operations[f"{name}.product"] += sum(spikes for _, spikes in gates + ups)
        self.macs[f"{name}.product"] += INNER
        product = [a * b for (a, _), (b, _) in zip(gates, ups, strict=True)]
        down = f"{name}.down_proj"
        return self.linear(down, [self.code(f"{down}.input_node", value) for value in product])

    def run(self, tokens: list[int]) -> list[Vector]:
        table = self.weight("model.embed_tokens")
        hidden = [table[token] for token in tokens]
        for index in range(2):
            name = f"model.layers.{index}"
            normed = [self.norm(f"{name}.input_layernorm", x) for x in hidden]
            hidden = _added(hidden, self.attention(f"{name}.self_attn", normed))
            normed = [self.norm(f"{name}.post_attention_layernorm", x) for x in hidden]
            hidden = _added(hidden, [self.mlp(f"{name}.mlp", x) for x in normed])
        final = [self.norm("model.norm", x) for x in hidden]
        return [self.linear("lm_head", [self.code("lm_head.input_node", v) for v in x]) for x in final]


def _added(first: list[Vector], second: list[Vector]) -> list[Vector]:
    return [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(first, second, strict=True)]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_count_of_a_two_layer_network(execution: str) -> None:
    """Linear layers, SAA, Hadamard products, softmax, norms and HG neurons: exactly."""
    snn = chosen_snn()
    simulation = Simulation(chosen_snn())
    logits = simulation.run(TOKENS)
    with SpikeMonitor(snn) as monitor:
        output = run(snn, execution, input_ids=torch.tensor([TOKENS]))
    assert output.logits[0].tolist() == [pytest.approx(row, abs=1e-9) for row in logits]
    rows = {row.name: row for row in count_operations(monitor)}
    assert {name: row.synaptic_operations for name, row in rows.items() if row.synaptic_operations} == {
        name: count for name, count in simulation.operations.items() if count
    }
    assert {name: row.macs for name, row in rows.items() if row.macs} == dict(simulation.macs)
    assert {name: counts.spikes for name, counts in monitor.sites.items() if counts.spikes} == {
        name: count for name, count in simulation.spikes.items() if count
    }
    kinds = {row.kind for row in rows.values() if row.synaptic_operations}
    assert kinds == {"norm", "projection", "scores", "softmax", "values", "activation", "gate", "head"}
    assert any(counts.outliers for counts in monitor.sites.values())


def test_audit_counts_the_same_at_weights() -> None:
    snn = chosen_snn()
    simulation = Simulation(chosen_snn())
    simulation.run(TOKENS)
    found = audit(snn, {"input_ids": torch.tensor([TOKENS])})
    weights = {row.module: row.count for row in found.rows if row.kind == "spike × weight" and "norm" not in row.module}
    assert weights == {name: simulation.operations[name] for name in weights}
    assert len(weights) == 2 * 7 + 1
    assert found.fully_spike_driven


def binary_network() -> tuple[Any, str]:
    """T = 1 and α = 2: the spikes of a population behind ReLU neurons are 0 and 1."""
    snn = convert_tiny(gpt2(activation_function="relu"), time_steps=1, levels=1, rounding="floor")
    site = "transformer.h.1.mlp.c_proj"
    for threshold in snn.get_submodule(f"{site}.input_node").parameters():
        threshold.data.fill_(2.0)
    bias = snn.get_submodule("transformer.h.1.mlp.c_fc").bias
    bias.data.copy_(torch.linspace(-2, 2, len(bias)))  # some neurons fire, others do not
    return snn, site


def test_synop_counter_agrees_where_it_can_count() -> None:
    """SpikingJelly's SynOpCounter sees spikes in {0, 1} that meet a weight."""
    snn, site = binary_network()
    counter = SynOpCounter()
    trains: list[torch.Tensor] = []
    handle = snn.get_submodule(f"{site}.input_node").register_forward_hook(lambda m, a, train: trains.append(train))
    with SpikeMonitor(snn) as monitor, DispatchCounterMode([counter]):
        run(snn, "temporal", input_ids=token_ids(1, 6))
    handle.remove()
    assert set(trains[0].unique().tolist()) == {0.0, 1.0}
    rows: dict[str, Operations] = {row.name: row for row in count_operations(monitor)}
    scope = next(name for name in counter.get_counts() if name.endswith(site))
    assert sum(counter.get_counts()[scope].values()) == rows[site].synaptic_operations > 0
