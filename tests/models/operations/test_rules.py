"""Every rule, uncoded: what comes out of both executions is what the torch function returns."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import las_sj
from las_sj.conversion.structure import bypassed_coding
from las_sj.models import running
from las_sj.models.operations.model import begin

Function = Callable[[Tensor], Any]


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in output if item is not None for tensor in tensors(item)]


def in_place(change: Callable[[Tensor], Any]) -> Function:
    """A function that changes a copy, and what it is a view of, in place."""

    def run(x: Tensor) -> Tensor:
        copy = x * 1.0
        change(copy)
        return copy

    return run


def written(shape: tuple[int, ...], write: Callable[[Tensor, Tensor], Any]) -> Function:
    """A function that writes a current into a tensor of ones; the first dimension is the batch."""

    def run(x: Tensor) -> Tensor:
        target = torch.ones(len(x), *shape)
        write(target, x)
        return target

    return run


W, B = draw(5, 4, seed=1), draw(5, seed=2)  # of [2, 3, 4]
MASK = draw(3, 4, seed=3) > 0
INDEX = torch.tensor([2, 0])
PLACES = torch.tensor([[[0, 2], [1, 1], [3, 0]]])
ROWS = torch.tensor([[0, 2, 1, 1]])

FUNCTIONS: dict[str, Function] = {
    "view": lambda x: x.view(-1, 4),
    "view_of_heads": lambda x: x.transpose(1, 2).reshape(-1, 2, 2, 3),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(-1, (2, 2)),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "view_as": lambda x: x.view_as(torch.empty(x.shape[0], 12)),
    "permute": lambda x: x.permute(2, 0, 1) @ W.T[:3, :2],
    "transpose": lambda x: x.transpose(0, 1).contiguous().sum(2),
    "T": lambda x: x.mT,
    "movedim": lambda x: x.movedim(0, -1).movedim(-1, 0),
    "expand": lambda x: x.unsqueeze(0).expand(5, -1, -1, -1).sum(0),
    "expand_as": lambda x: x[:, :1].expand_as(x),
    "repeat": lambda x: x.repeat(2, 1, 1).relu()[:, 0],
    "repeat_of_channels": lambda x: x.repeat(1, 2, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0) + x.repeat_interleave(2, 1)[:, :3].repeat_interleave(2, 0),
    "chunk": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "chunk_of_batch": lambda x: torch.cat(x.chunk(2, 0)[::-1], -1),
    "split": lambda x: x.split([1, 2], 1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "select": lambda x: x.select(1, 1).narrow(-1, 1, 2),
    "getitem": lambda x: x[:, 0] + x[..., 1, :] + x[:, -1, None].squeeze(1),
    "getitem_by_step": lambda x: x[:, ::2, 1:3],
    "getitem_by_index": lambda x: x[:, INDEX],
    "getitem_by_mask": lambda x: x[:, MASK],
    "getitem_of_rows": lambda x: x[torch.arange(len(x)), 1],
    "index_select": lambda x: x.index_select(1, INDEX),
    "gather": lambda x: x.gather(2, PLACES.expand(len(x), -1, -1)),
    "take_along_dim": lambda x: x.take_along_dim(PLACES, 2),
    "roll": lambda x: x.roll(1, 1).flip(2),
    "tril": lambda x: x.tril(),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "as_strided_of_columns": lambda x: x.transpose(0, 1).as_strided((3, len(x), 3, 2), (4, 12, 1, 1)),
    "as_strided": lambda x: x.contiguous().as_strided((len(x), 2, 2, 4), (12, 4, 4, 1)),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "diag_embed": lambda x: x.diag_embed(),
    "to": lambda x: x.to(torch.float64).float().clone().detach(),
    "neg": lambda x: -x,
    "complex": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (2, 2)).contiguous()) * 1j),
    "cat": lambda x: torch.cat([x, torch.ones(len(x), 2, 4), -x], 1),
    "cat_of_batch": lambda x: torch.cat([x, -x], 0),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "hstack": lambda x: torch.hstack([x, -x]),
    "where": lambda x: torch.where(MASK, x, 0.5),
    "where_as_method": lambda x: x.where(MASK, torch.tensor(-2.0)),
    "masked_fill": lambda x: x.masked_fill(MASK, -1.5),
    "hidden": lambda x: x.masked_fill(MASK, float("-inf")).softmax(-1),
    "pad": lambda x: F.pad(x, (1, 0, 0, 2), value=3.0),
    "add": lambda x: 1.0 + x + B[:4] - 2 + torch.add(x, x, alpha=2),
    "rsub": lambda x: 1 - x,
    "in_place": in_place(lambda x: x.add_(1).mul_(2).sub_(x * 0.5).clamp_(min=-1)),
    "in_place_through_a_view": in_place(lambda x: x[:, 0].add_(1.0)),
    "addcmul": lambda x: torch.addcmul(x, x, B[:4], value=0.5),
    "lerp": lambda x: torch.lerp(x, -x, 0.3),
    "addmm": lambda x: torch.baddbmm(x, x, draw(1, 4, 4).expand(len(x), 4, 4), beta=0.5, alpha=2),
    "mul": lambda x: x * x[:, :1] * 3,
    "div": lambda x: x / 2 / (1 + x * x),
    "rdiv": lambda x: 2 / (1 + x * x),
    "square": lambda x: x**2 + x**3 + x.pow(4),
    "matmul": lambda x: x @ x.transpose(1, 2) @ x,
    "matmul_of_constants": lambda x: draw(5, 3) @ x @ W.T,
    "matmul_of_rows": lambda x: x[:, 0] @ W.T,
    "mv": lambda x: x @ B[:4],
    "einsum": lambda x: torch.einsum("bik,bjk->bij", x, x),
    "einsum_of_dots": lambda x: torch.einsum("...k,jk->...j", x, W),
    "einsum_in_lists": lambda x: torch.einsum("sbc,hc->bsh", x.transpose(0, 1), W),
    "outer": lambda x: torch.einsum("bi,bj->bij", x[:, 0], x[:, 1]),
    "linear": lambda x: F.linear(x, W, B),
    "conv1d": lambda x: F.conv1d(x, draw(2, 3, 2), draw(2)),
    "conv2d": lambda x: F.conv2d(x.unsqueeze(1), draw(2, 1, 2, 2), padding=1),
    "conv_transpose": lambda x: F.conv_transpose1d(x, draw(3, 2, 2), draw(2), stride=2),
    "fft": lambda x: torch.fft.fftn(x, dim=(1, 2)).real,
    "sum": lambda x: x.sum(1) + x.sum((1, 2))[:, None] + x.mean(-1, keepdim=True)[:, 0],
    "cumsum": lambda x: x.cumsum(1),
    "diff": lambda x: x.diff(dim=1),
    "var": lambda x: x.var(-1) + x.std(-1, unbiased=False) + torch.var_mean(x, -1, correction=0)[1],
    "relu": lambda x: F.relu(x) + x.relu(),
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "exp": lambda x: torch.exp(-x.abs()),
    "sigmoid": lambda x: torch.sigmoid(x) + F.logsigmoid(x),
    "softplus": lambda x: F.softplus(x) + F.softplus(x, beta=2.0) + F.mish(x),
    "erf": torch.erf,
    "log": lambda x: torch.log(1 + x * x) + torch.log1p(x * x) + torch.log2(x * x + 2),
    "sin": lambda x: torch.sin(x) * torch.cos(x),
    "sqrt": lambda x: torch.sqrt(1 + x * x) + torch.rsqrt(1 + x * x) + (1 + x * x) ** 0.5,
    "glu": F.glu,
    "elu": lambda x: F.elu(x) + F.celu(x, 2.0) + F.selu(x),
    "leaky_relu": lambda x: F.leaky_relu(x) + F.prelu(x, torch.tensor([0.3])) + F.prelu(x, draw(3)),
    "hard": lambda x: F.relu6(x * 9) + F.hardtanh(x) + F.hardsigmoid(x * 4) + F.hardswish(x * 3),
    "soft": lambda x: F.softsign(x) + F.tanhshrink(x) + F.softshrink(x),
    "hyperbolic": lambda x: torch.sinh(x) + torch.cosh(x) + torch.expm1(x) + torch.exp2(x),
    "asinh": lambda x: torch.asinh(x * 4),
    "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=draw(4), max=None) + torch.clamp_max(x, 0.1),
    "clamp_to_nothing": lambda x: x.clamp(min=torch.finfo(x.dtype).min),
    "maximum": lambda x: torch.maximum(x, -x) + torch.minimum(x, B[:4]) + torch.max(x, x * 2),
    "logaddexp": lambda x: torch.logaddexp(x, -x * 3),
    "softmax": lambda x: x.softmax(-1) + F.softmax(x, 1) + F.softmin(x, -1),
    "softmax_over_columns": lambda x: x.transpose(0, 1).softmax(-1),
    "log_softmax": lambda x: F.log_softmax(x, -1) + torch.logsumexp(x, -1, keepdim=True),
    "layer_norm": lambda x: F.layer_norm(x, (4,), B[:4], B[1:]) + F.layer_norm(x, (3, 4)),
    "rms_norm": lambda x: F.rms_norm(x, (4,), B[:4], 1e-6),
    "norm_with_time_second": lambda x: F.layer_norm(x.transpose(0, 1), (4,), B[:4], B[1:]),
    "group_norm": lambda x: F.group_norm(x.transpose(1, 2), 2, B[:4], B[1:]),
    "instance_norm": lambda x: F.instance_norm(x),
    "batch_norm": lambda x: F.batch_norm(x, draw(3), draw(3) ** 2 + 1, draw(3, seed=5), draw(3, seed=6)),
    "normalize": lambda x: F.normalize(x, dim=-1) + F.cosine_similarity(x, x + 1, dim=-1)[..., None],
    "roots_of_zeros": lambda x: torch.sqrt(F.relu(x)) + F.relu(x - 9).norm(dim=-1, keepdim=True),
    "norm": lambda x: x.norm(dim=-1) + torch.linalg.vector_norm(x, dim=-1) + x.norm(p=1, dim=-1),
    "sdpa": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
    "sdpa_with_mask": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], MASK[:, :3]),
    "comparison": lambda x: (x > 0.1).float() + (x >= x[:, :1]).float() + (x != 0),
    "sign": lambda x: torch.sign(x) * torch.round(x),
    "argmax": lambda x: x.argmax(-1),
    "any": lambda x: (x > 1).any(-1),
    "max": lambda x: x.max(-1).values + x.amax(-1) + x.min(-1)[0] + x.amax((1, 2))[:, None],
    "topk": lambda x: x.topk(2, dim=-1)[0] + x.sort(-1, descending=True)[0][..., :2],
    "kthvalue": lambda x: x.kthvalue(2, -1).values + x.median(-1).values,
    "scatter_reduce": lambda x: torch.ones(len(x), 4, 4).scatter_reduce(
        1, torch.tensor([0, 2, 2])[None, :, None].expand(len(x), 3, 4), x, "amax", include_self=False
    ),
    "max_pool": lambda x: F.max_pool1d(x, 2) + F.max_pool2d(x[:, None], (1, 2))[:, 0],
    "adaptive_max_pool": lambda x: F.adaptive_max_pool2d(x.unsqueeze(1), 2),
    "avg_pool": lambda x: F.avg_pool1d(x, 2) + F.adaptive_avg_pool1d(x, 2),
    "interpolate": lambda x: F.interpolate(x.unsqueeze(1), scale_factor=2, mode="bilinear"),
    "image_to_columns": lambda x: F.unfold(x.unsqueeze(1), 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.transpose(1, 2).unsqueeze(-1), 2),
    "setitem": written((3, 4), lambda target, x: target.__setitem__((slice(None), slice(1, 3)), x[:, :2])),
    "setitem_in_a_view": written((3, 8), lambda target, x: target[..., :4].copy_(x)),
    "setitem_by_mask": written((3, 4), lambda target, x: target.__setitem__((slice(None), MASK), x[:, MASK])),
    "setitem_of_a_constant": in_place(lambda x: x.__setitem__((slice(None), 0), 2.0)),
    "index_add": written((5, 4), lambda target, x: target.index_add_(1, torch.tensor([0, 4, 0]), x)),
    "index_copy": written((5, 4), lambda target, x: target.index_copy_(1, torch.tensor([0, 4, 2]), x)),
    "scatter_into_hidden": lambda x: (
        torch.full_like(x, float("-inf")).scatter(2, ROWS.expand(len(x), 3, -1), x).softmax(2)
    ),
    "masked_scatter": lambda x: (x * 2).masked_scatter(MASK, x[:, MASK]),
    "scatter": lambda x: torch.zeros(len(x), 3, 9).scatter_add(2, ROWS[:, None].expand(len(x), 3, 4), x),
    "triangular_solve": lambda x: torch.linalg.solve_triangular(
        torch.tril(x[..., :3], -1) + torch.eye(3), x, upper=False, unitriangular=True
    ),
}


def relative(output: Tensor, expected: Tensor) -> float:
    return float((output.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-6))


@pytest.mark.parametrize("name", FUNCTIONS)
@torch.no_grad()
def test_rule(name: str) -> None:
    function, x = FUNCTIONS[name], draw(2, 3, 4)
    expected = tensors(function(x.clone()))
    model = Calls(function)
    begin(model, las_sj.LASConfig(time_steps=4).factory())
    for execution in ("accumulated", "temporal"):
        with running(model, execution):
            model(x=x.clone())
            with bypassed_coding(model):
                outputs = tensors(model(x=x.clone()))
        assert [output.shape[1:] for output in outputs] == [output.shape[1:] for output in expected]
        for output, reference in zip(outputs, expected, strict=True):
            assert relative(output[: len(reference)], reference) < 1e-5, execution
