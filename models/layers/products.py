"""Products of two spike trains, and the running maximum, with sums over T equal to the product of sums.

With S(t) the sum of a train up to step t, a product's current at step t is
S_a(t)·s_b(t) + s_a(t)·S_b(t−1) (LAS, arXiv 2505.09659, spike-equivalent components): in each of its terms one operand
is spikes and the accumulated other one acts as the weight.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from las_sj.neurons.buffers import BUFFERS

Multiply = Callable[..., Tensor]


def spiking_matmul(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Matrix product of two trains, [T, ..., M, K] and [T, ..., K, N] to [T, ..., M, N]."""
    steps, *batch = a_seq.shape[:-2]
    rows = math.prod(batch)
    a_seq, b_seq = (x.reshape(steps, rows, *x.shape[-2:]) for x in (a_seq, b_seq))
    train = _product(a_seq, b_seq, torch.bmm, Tensor.baddbmm_)
    return train.view(steps, *batch, *train.shape[-2:])


def spiking_product(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Hadamard product of two trains that broadcast, [T, ...] and [T, ...] to [T, ...]."""
    return _product(a_seq, b_seq, torch.mul, Tensor.addcmul_)


def _product(a_seq: Tensor, b_seq: Tensor, multiply: Multiply, add_product: Multiply) -> Tensor:
    """The product of two trains, given a·b as multiply(a, b, out=…), and out += a·b."""
    if torch.is_grad_enabled() and (a_seq.requires_grad or b_seq.requires_grad):
        steps = []
        a_sum, b_sum = torch.zeros_like(a_seq[0]), torch.zeros_like(b_seq[0])
        for a, b in zip(a_seq, b_seq, strict=True):
            a_sum = a_sum + a
            steps.append(multiply(a_sum, b) + multiply(a, b_sum))
            b_sum = b_sum + b
        return torch.stack(steps)
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


def subtract_running_max(x_seq: Tensor) -> Tensor:
    """x(t) − (max_j X_j(t) − max_j X_j(t−1)) over the last dimension, X(t) = Σ_{τ≤t} x(τ); [T, ...] to [T, ...].

    Sums over T to X(T) − max_j X_j(T): the max-subtraction of softmax in spike form. Without a gradient to keep it
    works in place.
    """
    with torch.no_grad():  # softmax does not depend on what is subtracted
        total = torch.zeros_like(x_seq[0])
        peaks = []
        for x in x_seq:
            total += x
            peaks.append(total.amax(-1, keepdim=True))
        peak_seq = torch.stack(peaks)
        peak_seq[1:] -= peak_seq[:-1].clone()
    return x_seq - peak_seq if torch.is_grad_enabled() and x_seq.requires_grad else x_seq.sub_(peak_seq)
