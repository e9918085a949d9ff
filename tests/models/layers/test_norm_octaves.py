"""Norms whose input is much smaller or larger than anything in the calibration, infinite, or no number."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS, llama, relative_error, token_ids
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

import las_sj
from las_sj.models import named_sites
from las_sj.models.call import Call, under_way
from las_sj.models.execution import Execution
from las_sj.models.families.gemma2 import OneCentredRMSNorm
from las_sj.models.layers.norm import SpikingLayerNorm, SpikingRMSNorm
from las_sj.models.layers.spiking_layer import become
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import CentredOctaves, MTNode, MultiThresholdCode, OATNode, ThresholdNode, WindowNode
from las_sj.neurons.kernels import host
from las_sj.neurons.row_octaves import RowGatedNode

T, CHANNELS = 16, 24
BACKENDS = ("auto", "torch")
SCALES = (1e-3, 0.03, 0.25, 1.0, 4.0, 100.0, 1e4, 1e12, 1e20)
KINDS: dict[str, tuple[Callable[[], nn.Module], type[SpikingRMSNorm]]] = {
    "LayerNorm": (lambda: nn.LayerNorm(CHANNELS, eps=1e-12), SpikingLayerNorm),
    "LayerNorm without gains": (lambda: nn.LayerNorm(CHANNELS, eps=1e-5, elementwise_affine=False), SpikingLayerNorm),
    "Llama": (lambda: LlamaRMSNorm(CHANNELS, eps=1e-6), SpikingRMSNorm),
    "Qwen3": (lambda: Qwen3RMSNorm(CHANNELS, eps=1e-6), SpikingRMSNorm),
    "Gemma2": (lambda: Gemma2RMSNorm(CHANNELS, eps=1e-6), OneCentredRMSNorm),
}
SHORT = " in fewer stages"
kinds = pytest.mark.parametrize("kind", [*KINDS, *(f"{kind}{SHORT}" for kind in KINDS if kind != "Qwen3")])
executions = pytest.mark.parametrize("execution", EXECUTIONS)
backends = pytest.mark.parametrize("backend", BACKENDS)


def rows(count: int = 16, seed: int = 0) -> Tensor:
    """Rows of about unit size, fp64, one of which has an outlier."""
    x = torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[0, 3] = 30.0
    return x


class ExactNorm:
    """What a norm computes, in fp64 from end to end: RMSNorms of transformers square in fp32.

    Args:
        norm: of the ANN.
    """

    def __init__(self, norm: Any) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x.double())
        x = x.double()
        gains = self.norm.weight + (1.0 if isinstance(self.norm, Gemma2RMSNorm) else 0.0)
        epsilon = self.norm.eps if isinstance(self.norm, Gemma2RMSNorm) else self.norm.variance_epsilon
        return x * gains * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


class Norms:
    """A norm of the ANN in fp64, and a spiking one that was calibrated with rows of unit size.

    Args:
        kind: a key of `KINDS`, perhaps with `SHORT` after it.
        backend: of all neurons.
        dtype: of the spiking one.
        outlier_aware: OAT neurons, or else MT neurons.
    """

    def __init__(
        self, kind: str, backend: str = "auto", dtype: torch.dtype = torch.float32, outlier_aware: bool = True
    ) -> None:
        make, mixin = KINDS[kind.removesuffix(SHORT)]
        norm = make()
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.add_(torch.linspace(-0.3, 0.4, CHANNELS))
        self.snn: Any = copy.deepcopy(norm)
        self.ann = ExactNorm(norm.double())
        self.execution = Execution(T)
        short = kind.endswith(SHORT)
        factory = NeuronFactory(MultiThresholdCode(T, 15), outlier_aware=outlier_aware, fewer_stages=short)
        become(self.snn, mixin, factory, self.execution, PretrainedConfig())
        self.snn.to(dtype)
        self._calibrate(rows(256, 1).to(dtype))
        for node in self.nodes:
            node.backend = backend

    @property
    def nodes(self) -> list[WindowNode]:
        return [node for node in self.snn.modules() if isinstance(node, WindowNode)]

    def _calibrate(self, x: Tensor) -> None:
        seen = {node: node.statistics() for node in self.nodes}
        for node in self.nodes:
            node.bypass, node.observer = True, seen[node].add
        with torch.no_grad():
            self.snn(x)
        for node in self.nodes:
            node.bypass, node.observer = False, None
            node.calibrate(seen[node], 1.5)

    def spiking(self, x: Tensor, execution: str) -> Tensor:
        """The sum over the window, in fp64."""
        temporal = execution == "temporal"
        functional.set_step_mode(self.snn, "m" if temporal else "s")
        x = x.to(next(self.snn.centred_node.parameters()).dtype)
        with under_way(Call(self.execution.identity, self.snn, temporal, T)):
            if not temporal:
                return self.snn(x).double()
            shares = torch.tensor([0.7, -0.2, 0.5, *[0.0] * (T - 3)], dtype=x.dtype).view(T, *[1] * x.dim())
            return self.snn((x * shares).flatten(0, 1)).view(T, *x.shape).double().sum(0)


@kinds
@executions
@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_free(kind: str, execution: str, backend: str, dtype: torch.dtype) -> None:
    norms = Norms(kind, backend, dtype)
    bias = getattr(norms.ann.norm, "bias", None)
    with torch.no_grad():
        for scale in SCALES:
            x = rows() * scale
            expected = norms.ann(x)
            found = norms.spiking(x, execution)
            error = (found - expected).norm(dim=-1) / (expected - (0.0 if bias is None else bias)).norm(dim=-1)
            assert float(error.max()) < 1e-3, scale


@kinds
@executions
@backends
def test_rows_of_all_sizes_side_by_side(kind: str, execution: str, backend: str) -> None:
    norms = Norms(kind, backend)
    x = rows() * torch.logspace(-2, 15, 16, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        assert relative_error(norms.spiking(x, execution), norms.ann(x)) < 1e-3


@kinds
@executions
@backends
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-5])
def test_where_epsilon_rules(kind: str, execution: str, backend: str, size: float) -> None:
    """x/√ε, and not x/|x|."""
    norms = Norms(kind, backend)
    x = rows() * size
    with torch.no_grad():
        torch.testing.assert_close(norms.spiking(x, execution), norms.ann(x), rtol=1e-3, atol=2e-4)


@kinds
@executions
@backends
def test_rows_near_the_largest_number(kind: str, execution: str, backend: str) -> None:
    """A mean may overflow, which is NaN then; nothing is wrong without a sign."""
    norms = Norms(kind, backend)
    x = rows() * 1e37
    with torch.no_grad():
        found, expected = norms.spiking(x, execution), norms.ann(x)
    right = (found - expected).norm(dim=-1) < 1e-3 * expected.norm(dim=-1)
    assert bool((right | found.isnan().all(-1)).all())
    assert bool(right.any())


@kinds
@executions
@backends
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_no_number_stays_none(
    kind: str, execution: str, backend: str, value: float, dtype: torch.dtype
) -> None:
    norms = Norms(kind, backend, dtype)
    x = rows()
    with torch.no_grad():
        clean = norms.spiking(x, execution)
        x[5, 7] = value
        found = norms.spiking(x, execution)
    assert bool(found[5].isnan().all())
    others = torch.arange(len(x)) != 5
    assert torch.equal(found[others], clean[others])


@kinds
@executions
def test_calibrated_rows_are_in_octave_0(kind: str, execution: str) -> None:
    """Bit for bit what the populations emit without gates."""
    norms = Norms(kind, "torch")
    x = rows(64, 2)
    with torch.no_grad():
        found = norms.spiking(x, execution)
        centred = norms.snn.centre(x.float())
        assert bool((norms.snn.octaves.units(norms.snn.centred_node, centred) == 1).all())
        for node in norms.nodes:
            if isinstance(node, RowGatedNode):
                node.octaves = None
        assert torch.equal(norms.spiking(x, execution), found)


@kinds
@executions
@pytest.mark.skipif(host.load() is None, reason="no C++ compiler")
def test_kernels_open_the_same_gates(kind: str, execution: str) -> None:
    """In fp64 a row that one of them brought to another octave would differ by far more."""
    x = rows(16) * torch.logspace(-8, 25, 16, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        found, expected = (Norms(kind, backend, torch.float64).spiking(x, execution) for backend in BACKENDS)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@executions
def test_single_thresholds(execution: str) -> None:
    norms = Norms("Llama", outlier_aware=False)
    assert isinstance(norms.snn.centred_node, MTNode)
    for scale in (0.01, 1e6):
        x = rows() * scale
        with torch.no_grad():
            assert relative_error(norms.spiking(x, execution), norms.ann(x)) < 1e-3


@executions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(execution: str, dtype: torch.dtype) -> None:
    """Potentials and thresholds are fp32 within neurons."""
    norms = Norms("Llama", "torch")
    norms.snn.weight.data = norms.snn.weight.data.to(dtype)
    for scale in (0.05, 50.0):
        x = rows()[1:].to(dtype) * scale
        functional.set_step_mode(norms.snn, "m" if execution == "temporal" else "s")
        call = Call(norms.execution.identity, norms.snn, execution == "temporal", T)
        with torch.no_grad(), under_way(call):
            if execution == "temporal":
                y = norms.snn((x / T).repeat(T, 1)).view(T, *x.shape).double().sum(0)
            else:
                y = norms.snn(x).double()
            assert relative_error(y, norms.ann(x.double())) < (1e-2 if dtype == torch.float16 else 5e-2)


@kinds
@executions
@pytest.mark.parametrize("scale", [0.05, 1.0, 300.0])
def test_gradients(kind: str, execution: str, scale: float) -> None:
    """Straight-through, also of rows in another octave."""
    norms = Norms(kind)
    direction = rows(15, 3)
    gradients = []
    for call in (norms.ann, lambda x: norms.spiking(x, execution)):
        x = (rows()[1:] * scale).requires_grad_()
        (call(x) * direction).sum().backward()
        gradients.append(x.grad)
    assert relative_error(gradients[1], gradients[0]) < 2e-2


def test_thresholds_per_channel() -> None:
    norms = Norms("Llama", "torch")
    node: Any = norms.snn.centred_node
    for theta in (node.theta_normal, node.theta_outlier):
        theta.data = theta.data * torch.linspace(1.0, 1.5, CHANNELS)
    for scale in (0.01, 1.0, 1e3):
        x = rows() * scale
        with torch.no_grad():
            assert relative_error(norms.spiking(x, "accumulated"), norms.ann(x)) < 1e-3


@pytest.mark.parametrize("step", [2, 3])
def test_octaves_repeat(step: int) -> None:
    """Outside of octave 0 a row and twice that row have the same spikes."""
    node = OATNode(1.0, 20.0, T, 15)
    scale = OATNode(1.0, 4.0, T, 15)
    node.octaves = CentredOctaves(scale, 0.0)
    x = rows()[1:].float() * 1000
    with torch.no_grad():
        assert torch.equal(node(x), node(x * 2**step))
        assert not torch.equal(node(x), node(x * 1.5))
        assert node.out_of_range == 0


class TestWholeModels:
    def lens(self, model: Any, state: Tensor) -> Tensor:
        """What a model would say if a hidden state were its last."""
        logits: Tensor = model.lm_head(model.model.norm(state))
        return logits

    @executions
    def test_logit_lens(self, execution: str) -> None:
        """The layers are called by themselves, with states of the ANN."""
        ann = llama(num_hidden_layers=4)
        snn = las_sj.convert(copy.deepcopy(ann), None, [{"input_ids": token_ids(4, 24)}])
        las_sj.set_execution(snn, execution)
        with torch.no_grad():
            for state in ann(token_ids(2, 12), output_hidden_states=True).hidden_states[:-1]:
                assert relative_error(self.lens(snn, state), self.lens(ann, state)) < 1e-2

    @executions
    @pytest.mark.parametrize(
        "architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel", "BertModel"]
    )
    def test_scaled_embeddings(self, architecture: str, execution: str) -> None:
        ann = TINY_MODELS[architecture].build()
        snn = las_sj.convert(copy.deepcopy(ann), None, [{"input_ids": token_ids(8, 24)}])
        las_sj.set_execution(snn, execution)
        embeddings = ann.get_input_embeddings()(token_ids(2, 12))
        with torch.no_grad():
            for scale in (0.1, 0.25, 1.0, 4.0, 10.0):
                found, expected = (model(inputs_embeds=embeddings * scale)[0] for model in (snn, ann))
                assert relative_error(found, expected) < 1e-2, scale

    def test_gates_are_made_with_the_layer(self) -> None:
        """A loaded model has them without a word in its checkpoint."""
        snn = las_sj.convert(llama(), None, [{"input_ids": token_ids(4, 24)}])
        clone = copy.deepcopy(snn)
        for model in (snn, clone):
            for name, site in named_sites(model):
                if name.endswith("norm.centred_node"):
                    assert isinstance(site.node, ThresholdNode)
                    assert isinstance(site.node.octaves, CentredOctaves)
                    assert site.node.octaves.scale is model.get_submodule(name.replace("centred", "scale"))
