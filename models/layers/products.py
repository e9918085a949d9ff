"""Products of two spike trains, and the running maximum, with sums over T equal to the product of sums.

With S(t) the sum of a train up to step t, a product's current at step t is
S_a(t)·s_b(t) + s_a(t)·S_b(t−1) (LAS, arXiv 2505.09659, spike-equivalent components): in each of its terms one operand
is spikes and the accumulated other one acts as the weight. Products of half-precision trains are in single precision.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from las_sj.neurons import watching
from las_sj.neurons.buffers import BUFFERS
from las_sj.neurons.precision import HALF, at_least_single, single

Multiply = Callable[..., Tensor]
AddProduct = Callable[..., Tensor | None]


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of values, [..., M, K] and [..., K, L] to [..., M, L], in single precision at least."""
    if a.dtype in HALF and a.dtype == b.dtype and a.device.type == "cuda":
        return _bmm(a.flatten(0, -3), b.flatten(0, -3)).unflatten(0, a.shape[:-2])
    return torch.matmul(single(a), single(b))


def spiking_matmul(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Matrix product of two trains, [T, ..., M, K] and [T, ..., K, N] to [T, ..., M, N]."""
    steps, *batch = a_seq.shape[:-2]
    rows = math.prod(batch)
    a_seq, b_seq = (_operand(x.reshape(steps, rows, *x.shape[-2:])) for x in (a_seq, b_seq))
    train = _product(a_seq, b_seq, _matmul, _add_matmul)
    return train.view(steps, *batch, *train.shape[-2:])


def spiking_product(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Hadamard product of two trains that broadcast, [T, ...] and [T, ...] to [T, ...]."""
    return _product(single(a_seq), single(b_seq), torch.mul, Tensor.addcmul_)


def gained_product(a_seq: Tensor, b_seq: Tensor, gains: Tensor) -> Tensor:
    """γ∘a∘b of two trains that broadcast to [T, ..., C], and γ, [C]; to [T, ..., C].

    The accumulated operands are weighted sums of spikes, Σ γ·s: S_γa(t)·s_b(t) + s_a(t)·S_γb(t−1). So spikes meet
    weights and sums, and no current is multiplied.
    """
    a_seq, b_seq, gains = single(a_seq), single(b_seq), single(gains)
    steps, a_sum, b_sum = [], torch.zeros_like(a_seq[0]), torch.zeros_like(b_seq[0] * gains)
    for a, b in zip(a_seq, b_seq, strict=True):
        a_sum = a_sum + a * gains
        steps.append(a_sum * b + a * b_sum)
        b_sum = b_sum + b * gains
    return torch.stack(steps)


def _operand(x_seq: Tensor) -> Tensor:
    """A train as matrix products take it: as it is on GPUs, which add products of half precision in single."""
    return x_seq if x_seq.device.type == "cuda" and not torch.is_grad_enabled() else single(x_seq)


def _matmul(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a·b, [rows, M, K] and [rows, K, N], or of several steps, [T, rows, ...]."""
    if a.dim() == 3:
        return _bmm(a, b) if out is None else torch.bmm(a, b, out=out)
    return _bmm(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, a.shape[:2])


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    """a·b, [rows, M, K] and [rows, K, N], in single precision at least."""
    if a.dtype in HALF and a.device.type == "cuda":
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(single(a), single(b))


def _add_matmul(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a·b, as `_matmul` has it."""
    a, b = a.flatten(0, -3), b.flatten(0, -3)
    if a.dtype in HALF:
        out.flatten(0, -3).add_(_bmm(a, b))
    else:
        out.flatten(0, -3).baddbmm_(a, b)


def _product(a_seq: Tensor, b_seq: Tensor, multiply: Multiply, add_product: AddProduct) -> Tensor:
    """The product of two trains, given a·b as multiply(a, b, out=…), and out += a·b as add_product(out, a, b)."""
    if torch.is_grad_enabled() and (a_seq.requires_grad or b_seq.requires_grad):
        return _with_gradient(a_seq, b_seq, multiply)
    if a_seq.device.type == "cpu" or watching.operations_are_followed():
        return _step_by_step(a_seq, b_seq, multiply, add_product)
    return _all_steps(a_seq, b_seq, multiply, add_product)


def _with_gradient(a_seq: Tensor, b_seq: Tensor, multiply: Multiply) -> Tensor:
    """The product without changing anything in place."""
    steps = []
    a_sum, b_sum = torch.zeros_like(a_seq[0]), torch.zeros_like(b_seq[0])
    for a, b in zip(a_seq, b_seq, strict=True):
        a_sum = a_sum + a
        steps.append(multiply(a_sum, b) + multiply(a, b_sum))
        b_sum = b_sum + b
    return torch.stack(steps)


def _step_by_step(a_seq: Tensor, b_seq: Tensor, multiply: Multiply, add_product: AddProduct) -> Tensor:
    """The product with sums up to one step at a time, which stay in a processor's cache."""
    a_seq, b_seq = single(a_seq), single(b_seq)
    first = multiply(a_seq[0], b_seq[0])
    train = BUFFERS.empty((len(a_seq), *first.shape), first)
    train[0] = first
    a_sum, b_sum = a_seq[0].clone(), b_seq[0].clone()
    for t in range(1, len(a_seq)):
        a_sum += a_seq[t]
        multiply(a_sum, b_seq[t], out=train[t])
        add_product(train[t], a_seq[t], b_sum)
        b_sum += b_seq[t]
    return train


def _all_steps(a_seq: Tensor, b_seq: Tensor, multiply: Multiply, add_product: AddProduct) -> Tensor:
    """The product with sums up to all steps at once: few launches, for accelerators."""
    a_sum, b_sum = _sums_up_to(a_seq), _sums_up_to(b_seq)
    train = multiply(a_sum, b_seq)
    add_product(train[1:], a_seq[1:], b_sum[:-1])
    return train


def _sums_up_to(x_seq: Tensor) -> Tensor:
    """S(t) of each step, [T, ...]; summed in single precision at least."""
    return x_seq.cumsum(0, dtype=at_least_single(x_seq.dtype)).to(x_seq.dtype)


def subtract_running_max(x_seq: Tensor) -> Tensor:
    """x(t) − (max_j X_j(t) − max_j X_j(t−1)) over the last dimension, X(t) = Σ_{τ≤t} x(τ); [T, ...] to [T, ...].

    Sums over T to X(T) − max_j X_j(T): the max-subtraction of softmax in spike form. Without a gradient to keep it
    works in place.
    """
    with torch.no_grad():  # softmax does not depend on what is subtracted
        peak_seq = _running_max(x_seq)
        peak_seq[1:] -= peak_seq[:-1].clone()
    return x_seq - peak_seq if torch.is_grad_enabled() and x_seq.requires_grad else x_seq.sub_(peak_seq)


def _running_max(x_seq: Tensor) -> Tensor:
    """max_j X_j(t) of each step, [T, ..., 1]."""
    if x_seq.device.type != "cpu":
        return _sums_up_to(x_seq).amax(-1, keepdim=True)
    total = torch.zeros_like(x_seq[0])
    peaks = []
    for x in x_seq:
        total += x
        peaks.append(total.amax(-1, keepdim=True))
    return torch.stack(peaks)
