"""Products of two spike trains, and the running maximum, with sums over T equal to the product of sums.

With S(t) the sum of a train up to step t, a product's current at step t is
S_a(t)·s_b(t) + s_a(t)·S_b(t−1) (LAS, arXiv 2505.09659, spike-equivalent components): in each of its terms one operand
is spikes and the accumulated other one acts as the weight.
"""

import torch
from torch import Tensor


def spiking_matmul(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Matrix product of two trains, [T, ..., M, K] and [T, ..., K, N] to [T, ..., M, N]."""
    out = a_seq.new_empty((*a_seq.shape[:-1], b_seq.shape[-1]))
    a_sum, b_sum = torch.zeros_like(a_seq[0]), torch.zeros_like(b_seq[0])
    for t, (a, b) in enumerate(zip(a_seq, b_seq, strict=True)):
        a_sum += a
        torch.matmul(a_sum, b, out=out[t])
        if t > 0:
            out[t] += torch.matmul(a, b_sum)
        b_sum += b
    return out


def spiking_product(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Hadamard product of two trains that broadcast, [T, ...] and [T, ...] to [T, ...]."""
    shape = torch.broadcast_shapes(a_seq.shape, b_seq.shape)
    out = a_seq.new_empty(shape)
    a_sum, b_sum = torch.zeros_like(a_seq[0]), torch.zeros_like(b_seq[0])
    for t, (a, b) in enumerate(zip(a_seq, b_seq, strict=True)):
        a_sum += a
        torch.mul(a_sum, b, out=out[t])
        if t > 0:
            out[t].addcmul_(a, b_sum)
        b_sum += b
    return out


def subtract_running_max(x_seq: Tensor) -> Tensor:
    """x(t) − (max_j X_j(t) − max_j X_j(t−1)) over the last dimension, X(t) = Σ_{τ≤t} x(τ); [T, ...], in place.

    Sums over T to X(T) − max_j X_j(T): the max-subtraction of softmax in spike form.
    """
    total = torch.zeros_like(x_seq[0])
    before: Tensor | float = 0.0
    for x in x_seq:
        total += x
        now = total.amax(-1, keepdim=True)
        x -= now - before
        before = now
    return x_seq
