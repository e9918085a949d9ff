"""The audit on functions of torch, in small temporal functions written by hand: spikes pass, currents are named."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_sj.analysis import Audit, audit
from las_sj.analysis.auditing.classes import ADDITION, ANALOG_PRODUCT, COMPARISON, SPIKE_ACCUMULATED, SPIKE_WEIGHT
from las_sj.neurons import OATNode

T, B, C, SIZE = 4, 2, 4, 6
STEPS = T * B
Function = Callable[..., Tensor]


class Temporal(nn.Module):
    """Currents [T·B, C, 6, 6]; a function of them, of the spikes of two populations of neurons, and of weights."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = (OATNode(1.0, 4.0, T, levels=3, step_mode="m") for _ in range(2))
        self.kernel = nn.Parameter(torch.randn(8, C, 3, 3))
        self.matrix = nn.Parameter(torch.randn(8, SIZE))
        self.table = torch.randn(SIZE)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        a, b = (node(x.unflatten(0, (T, B))).flatten(0, 1) for node in (self.a, self.b))
        return self.function(self, x, a, b)


def audited(function: Function) -> Audit:
    x = torch.randn(STEPS, C, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return audit(Temporal(function), {"x": x})


def total(x: Tensor) -> Tensor:
    """What is decided on: the sum over time, [B, ...]."""
    return x.unflatten(0, (T, B)).sum(0)


def running(x: Tensor) -> Tensor:
    return x.unflatten(0, (T, B)).cumsum(0).flatten(0, 1)


def bilinear(f: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    return f(running(a), b) + f(a, running(b) - b)


def again(decided: Tensor) -> Tensor:
    return decided.repeat(T, *[1] * (decided.dim() - 1))


def max_pooled(x: Tensor) -> Tensor:
    index = again(F.max_pool2d(total(x), 2, return_indices=True)[1])
    return x.flatten(2).gather(2, index.flatten(2)).view(index.shape)


def best_experts(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Routing as modelling code writes it: a mask of 0 and 1 from a top-k, and a sum over what it selects."""
    scores = total(x)[:, :, 0]
    chosen = torch.zeros_like(scores).scatter_(-1, scores.topk(2, -1).indices, 1.0)
    mask = again(chosen.bool().float())[:, :, None]
    return F.linear(a * mask, m.matrix) + F.linear(a, m.matrix) * chosen.sum().bool()


def written_piece_by_piece(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    out = a.new_zeros(STEPS, 2 * C, SIZE, SIZE)
    out[:, :C] = a
    out[:, C:] = b
    return F.linear(out, m.matrix)


def selected_tokens(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    order = again(total(x).sum((2, 3)).argsort(-1))[:, :, None, None].expand(a.shape)
    return F.linear(torch.take_along_dim(a, order, 1), m.matrix)


def from_a_table(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    ids = total(x).argmax(-1)
    return F.embedding(again(ids), m.matrix) / T + a


def parts_told_by_lengths(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Bounds of images as vision towers make them, of numbers in the code."""
    bounds = torch.unique_consecutive(torch.tensor([0, 2, 2, 5, 6]))
    return torch.cat([part.sum(2, keepdim=True) for part in x.split((bounds[1:] - bounds[:-1]).tolist(), 2)], 2)


def scale_of(x: Tensor, factor: int) -> Tensor:
    return torch.sqrt(torch.tensor(x.size(-1), dtype=torch.float) * factor)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # modelling code of transformers does it still
    scaled = torch.jit.script(scale_of)


def constants_made_on_the_way(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    scale = torch.full_like(x, 0.5) + x.new_ones(SIZE) * m.table
    return x * scale + torch.ones_like(x).div_(T)


def of_channels_in_groups(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(a, m.kernel[:, :2], groups=2, padding=1)


SPIKING: dict[str, tuple[Function, str]] = {
    "convolution": (
        lambda m, x, a, b: F.conv2d(a, m.kernel, m.kernel[:, 0, 0, 0] / T, stride=2, padding=1),
        "convolution",
    ),
    "convolution 1d": (lambda m, x, a, b: F.conv1d(a[:, :, 0], m.kernel[..., 0], padding="same"), "convolution"),
    "convolution 3d": (lambda m, x, a, b: F.conv3d(a.unsqueeze(1), m.kernel[:, :1, None]), "convolution"),
    "transposed": (lambda m, x, a, b: F.conv_transpose2d(a, m.kernel[:C], stride=2), "transposed convolution"),
    "grouped": (of_channels_in_groups, "convolution"),
    "depthwise": (lambda m, x, a, b: F.conv2d(a, m.kernel[:C, :1], groups=C), "convolution"),
    "im2col": (lambda m, x, a, b: F.unfold(a, 3).transpose(1, 2) @ m.kernel.flatten(1).T, "mm"),
    "windows": (lambda m, x, a, b: F.linear(a.unfold(3, 3, 1), m.kernel[0, 0]), "mm"),
    "strides": (lambda m, x, a, b: F.linear(a.as_strided((STEPS, 6), (144, 1)), m.matrix), "mm"),
    "padded": (lambda m, x, a, b: F.linear(F.pad(a, (0, 0, 1, 2)), m.matrix), "mm"),
    "mirrored at the edge": (
        lambda m, x, a, b: F.conv2d(F.pad(a, (1, 1, 1, 1), mode="reflect"), m.kernel),
        "convolution",
    ),
    "joined": (lambda m, x, a, b: F.linear(torch.cat([a, b, b.new_zeros(STEPS, 1, 6, 6)], 1), m.matrix), "mm"),
    "rolled": (lambda m, x, a, b: F.linear(a.roll((1, 2), (2, 3)).flip(1), m.matrix), "mm"),
    "repeated heads": (lambda m, x, a, b: torch.matmul(a.repeat_interleave(2, 1), m.matrix.T), "mm"),
    "broadcast": (lambda m, x, a, b: torch.matmul(a[:, None], torch.randn(3, C, SIZE, 5)), "bmm"),
    "indexed": (lambda m, x, a, b: F.linear(a[:, [2, 0]].index_select(3, torch.arange(6)), m.matrix), "mm"),
    "negated and masked": (lambda m, x, a, b: F.linear(-a.masked_fill(torch.eye(6) > 0, 0.0), m.matrix), "mm"),
    "chosen": (lambda m, x, a, b: F.linear(torch.where(torch.eye(6) > 0, a, b), m.matrix), "mm"),
    "masked by numbers": (lambda m, x, a, b: F.linear(a * torch.eye(6), m.matrix), "mm"),
    "time in the second axis": (lambda m, x, a, b: F.linear(a[:, :, 0].transpose(0, 1), m.matrix), "mm"),
    "upsampled": (lambda m, x, a, b: F.conv2d(F.interpolate(a, scale_factor=2), m.kernel), "convolution"),
    "shuffled": (lambda m, x, a, b: F.conv2d(F.pixel_shuffle(a, 2), m.kernel[:, :1]), "convolution"),
    "written": (written_piece_by_piece, "mm"),
    "sorted tokens": (selected_tokens, "mm"),
    "experts": (best_experts, "mm"),
    "max pooling": (lambda m, x, a, b: F.linear(max_pooled(a), m.matrix[:, :3]), "mm"),
    "weights and a vector": (lambda m, x, a, b: a[0, 0] @ m.table, "mv"),
    "one step at a time": (
        lambda m, x, a, b: torch.stack([F.linear(step, m.matrix) for step in a.unflatten(0, (T, B))]),
        "mm",
    ),
    "each with its weights": (lambda m, x, a, b: (a[..., None, :] * m.matrix).sum(-1), "mul"),
    "half precision": (
        lambda m, x, a, b: F.linear(F.unfold(a.bfloat16(), 3), m.kernel.new_ones(5, 16).bfloat16()),
        "mm",
    ),
    "frequencies": (lambda m, x, a, b: torch.fft.fftn(a, dim=(2, 3)).real, "_fft_c2c"),
}
PRODUCTS: dict[str, Function] = {
    "mul": lambda m, x, a, b: bilinear(torch.mul, a, b),
    "mul with one more axis": lambda m, x, a, b: bilinear(torch.mul, a, b[:, :1]),
    "matmul": lambda m, x, a, b: bilinear(torch.matmul, a, b.transpose(-1, -2)),
    "matmul of repeated heads": lambda m, x, a, b: bilinear(torch.matmul, a, b[:, :1].expand_as(b)),
    "einsum": lambda m, x, a, b: bilinear(lambda a, b: torch.einsum("bchw,bcgw->bchg", a, b), a, b),
    "linear": lambda m, x, a, b: bilinear(lambda a, b: torch.bmm(a.flatten(1, 2), b.flatten(1, 2).mT), a, b),
    "baddbmm": lambda m, x, a, b: torch.baddbmm(x[:, 0], running(a)[:, 0], b[:, 0]),
    "addcmul": lambda m, x, a, b: torch.addcmul(x, running(a), b),
    "convolution": lambda m, x, a, b: F.conv2d(running(a)[:1], b[:1]),
    "convolution with spikes as its kernel": lambda m, x, a, b: F.conv2d(a[:1], (running(b) - b)[:1]),
}
ALLOWED: dict[str, Function] = {
    "average pooling": lambda m, x, a, b: F.avg_pool2d(x, 2),
    "adaptive pooling": lambda m, x, a, b: F.adaptive_avg_pool2d(x, 3),
    "mean": lambda m, x, a, b: F.adaptive_avg_pool2d(x, 1),
    "mean of a line": lambda m, x, a, b: nn.AdaptiveAvgPool1d(1)(x[:, 0]),
    "max pooling": lambda m, x, a, b: max_pooled(x),
    "fold": lambda m, x, a, b: F.fold(F.unfold(x, 3), SIZE, 3),
    "added at places": lambda m, x, a, b: x.new_zeros(STEPS, C, 6, 6).index_add_(1, torch.arange(C), x),
    "put at places": lambda m, x, a, b: x.index_put((torch.arange(STEPS), torch.zeros(STEPS).long()), x[:, 1], True),
    "decided mask": lambda m, x, a, b: x * again((total(x) > 0).float()),
    "decided rows": lambda m, x, a, b: again(F.one_hot(total(x).argmax(-1), SIZE).float()) @ x,
    "table": from_a_table,
    "constants": constants_made_on_the_way,
    "yes or no": lambda m, x, a, b: x if bool((total(x) > 0).any()) else -x,
    "counted": lambda m, x, a, b: x[:, : max(1, int((total(x) > 1e9).sum()))],
    "routing": best_experts,
    "lengths": parts_told_by_lengths,
    "complex numbers": lambda m, x, a, b: torch.view_as_real(
        torch.view_as_complex(x.unflatten(-1, (3, 2)).contiguous()) * torch.polar(torch.ones(3), torch.arange(3.0))
    ),
    "numbers of compiled functions": lambda m, x, a, b: x / scaled(x, 3),
    "shapes of a product": lambda m, x, a, b: x[:, : torch.mul(x.to("meta"), x.to("meta")).shape[1]],
    "zeroed buffer": lambda m, x, a, b: x * x.clone().zero_().add_(0.5),
}
ANALOG: dict[str, tuple[Function, str]] = {
    "product": (lambda m, x, a, b: x * (x + a), "mul"),
    "convolution": (lambda m, x, a, b: F.conv2d(x, m.kernel), "convolution"),
    "transposed": (lambda m, x, a, b: F.conv_transpose2d(x, m.kernel[:C]), "transposed convolution"),
    "grouped": (lambda m, x, a, b: F.conv2d(x, m.kernel[:, :2], groups=2), "convolution"),
    "kernel of currents": (lambda m, x, a, b: F.conv2d(x[:1], x[:1]), "convolution"),
    "im2col": (lambda m, x, a, b: F.unfold(x, 3).transpose(1, 2) @ m.kernel.flatten(1).T, "mm"),
    "joined with currents": (lambda m, x, a, b: F.linear(torch.cat([a, x], 1), m.matrix), "mm"),
    "padded with ones": (lambda m, x, a, b: F.linear(F.pad(a, (0, 0, 1, 1), value=1.0), m.matrix), "mm"),
    "shifted": (lambda m, x, a, b: F.conv2d(a + 1e-3, m.kernel), "convolution"),
    "moved in time": (lambda m, x, a, b: F.conv2d(a.roll(B, 0), m.kernel), "convolution"),
    "back in time": (lambda m, x, a, b: F.linear(a.unflatten(0, (T, B)).flip(0), m.matrix), "mm"),
    "overwritten in part": (lambda m, x, a, b: F.linear(a.index_copy_(1, torch.tensor([0]), x[:, :1]), m.matrix), "mm"),
    "added to in place": (lambda m, x, a, b: F.linear(a.add_(x), m.matrix), "mm"),
    "masked by shares": (lambda m, x, a, b: F.linear(a * torch.full((6,), 0.9), m.matrix), "mm"),
    "soft mask": (lambda m, x, a, b: x * again(total(x).clamp(0, 1)), "mul"),
    "averaged spikes": (lambda m, x, a, b: F.linear(F.avg_pool2d(a, 2), m.matrix[:, :3]), "mm"),
    "frequencies": (lambda m, x, a, b: torch.fft.fftn(x, dim=(2, 3)).real, "_fft_c2c"),
    "tanh on a readout's sum": (lambda m, x, a, b: torch.tanh(total(F.linear(a, m.matrix))), "tanh"),
    "tanh without torch's functions": (lambda m, x, a, b: total(F.linear(a, m.matrix)).tanh_(), "tanh"),
    "scaled by what is unique": (lambda m, x, a, b: x * total(x).unique()[:1], "mul"),
    "staircase": (lambda m, x, a, b: total(x).round(), "round"),
    "counts as factors": (lambda m, x, a, b: x * (total(x) > 0).sum().float(), "mul"),
    "division by what was counted": (lambda m, x, a, b: x / (total(x) > 0).sum(), "div"),
    "many constants each": (lambda m, x, a, b: (x[..., None, :] * torch.eye(6)).sum(-1), "mul"),
    "blended": (lambda m, x, a, b: F.interpolate(x, scale_factor=2, mode="bilinear"), "upsample_bilinear2d"),
}


def by_kind(found: Audit, kind: str) -> dict[str, int]:
    return {row.operator: row.count for row in found.rows if row.kind == kind}


@pytest.mark.parametrize(("function", "operator"), SPIKING.values(), ids=SPIKING)
def test_spikes_that_weights_meet(function: Function, operator: str) -> None:
    found = audited(function)
    assert found.analog == []
    assert by_kind(found, SPIKE_WEIGHT).get(operator, by_kind(found, SPIKE_WEIGHT).get(f"add{operator}", 0)) > 0
    assert found.fully_spike_driven


@pytest.mark.parametrize("function", PRODUCTS.values(), ids=PRODUCTS)
def test_products_of_spikes_and_sums_of_spikes(function: Function) -> None:
    found = audited(function)
    assert found.analog == []
    assert sum(by_kind(found, SPIKE_ACCUMULATED).values()) > 0


@pytest.mark.parametrize("function", ALLOWED.values(), ids=ALLOWED)
def test_additions_selections_and_constants(function: Function) -> None:
    assert audited(function).analog == []


@pytest.mark.parametrize(("function", "operator"), ANALOG.values(), ids=ANALOG)
def test_analog_operations_are_named(function: Function, operator: str) -> None:
    found = audited(function)
    assert {row.operator for row in found.analog} == {operator}
    assert {row.module for row in found.analog} == {"Temporal"}
    assert all(row.place.startswith("test_operations_of_torch.py:") for row in found.analog)
    assert f"- Temporal: {operator} (test_operations_of_torch.py:" in str(found)
    assert not found.fully_spike_driven


@pytest.mark.parametrize("name", ["convolution", "transposed", "grouped", "depthwise", "convolution 3d"])
def test_synapses_of_a_convolution(name: str) -> None:
    """As many as a convolution of the places of spikes with ones, one spike after the other."""
    function, operator = SPIKING[name]
    seen: list[tuple[Tensor, Tensor]] = []

    def both(m: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        seen.append((a.clone(), function(m, x, a, b)))
        return seen[0][1]

    found = audited(both)
    model = Temporal(function)
    spikes, expected = seen[0][0], 0
    for place in spikes.nonzero().tolist():
        alone = torch.zeros_like(spikes)
        alone[tuple(place)] = 1.0
        with torch.no_grad():
            model.kernel.fill_(1.0)
            reached = model.function(model, None, alone, None) - model.function(model, None, 0 * alone, None)
        expected += round(float(reached.sum()))
    assert by_kind(found, SPIKE_WEIGHT) == {operator: expected}


def test_decisions_are_named() -> None:
    found = audited(best_experts)
    assert [row.operator for row in found.decisions] == ["topk", "ne"]
    assert "Decided:\n\n- Temporal: topk (test_operations_of_torch.py:" in str(found)
    assert by_kind(found, COMPARISON)["topk"] == B * C * SIZE
    assert audited(ALLOWED["mean"]).decisions == []


def test_average_pooling_adds() -> None:
    found = audited(ALLOWED["average pooling"])
    assert by_kind(found, ADDITION) == {"avg_pool2d": STEPS * C * SIZE * SIZE}
    assert by_kind(found, ANALOG_PRODUCT) == {}


@pytest.mark.parametrize(
    "name", ["pixel_values", "input_features", "input_values", "flattened_patches", "sound"], ids=str
)
def test_float_inputs_of_any_name(name: str) -> None:
    class Model(nn.Module):
        def forward(self, attention_mask: Tensor, **values: Tensor) -> Tensor:
            x = values[name] * attention_mask
            return x * x

    found = audit(Model(), {name: torch.randn(2, 3), "attention_mask": torch.ones(2, 3)})
    assert [(row.operator, row.count) for row in found.analog] == [("mul", 6)]


def test_constants_that_modules_hold() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = {"cosine": torch.randn(3), "sines": [torch.randn(3)]}

        def forward(self, x: Tensor) -> Tensor:
            return x * self.tables["cosine"] + x * self.tables["sines"][0]

    assert audit(Holder(), {"x": torch.randn(2, 3)}).analog == []
