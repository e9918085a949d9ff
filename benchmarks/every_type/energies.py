"""Multiply-accumulates of the energy report against those that PyTorch counts in the ANN."""

import copy
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from every_type.building import Subject
from every_type.weights import Model
from las_sj.analysis import SpikeMonitor
from las_sj.analysis.energies.operations import count_operations
from las_sj.models import running
from las_sj.models.operations.attention import keep_order_of_tokens, use_native_attention


def same_macs(snn: Model, subject: Subject) -> str:
    """ "equal", or by how much the report has more than the ANN."""
    expected = _counted_by_torch(subject)
    with torch.no_grad(), running(snn, "accumulated"), SpikeMonitor(snn) as monitor:
        snn(**subject.inputs.make(1))
    found = sum(row.macs for row in count_operations(monitor))
    return "equal" if found == expected else f"{found / expected - 1:+.1%}"


def _counted_by_torch(subject: Subject) -> float:
    """Matrix products and convolutions, two operations a MAC; images of a batch attend each to itself, unmasked.

    The counter knows neither fused attention of a processor nor grouped experts, and is told what a triangular solve
    takes; layers of torch take no short cuts where there are gradients.
    """
    ann = copy.deepcopy(subject.model)
    use_native_attention(ann)
    keep_order_of_tokens(ann)
    of_solves = {torch.ops.aten.linalg_solve_triangular: _flops_of_triangle}
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=of_solves) as counter:
        ann(**subject.inputs.make(1))
    return counter.get_total_flops() / 2


def _flops_of_triangle(triangle: torch.Size, right: torch.Size, *args: Any, **kwargs: Any) -> int:
    """Each row takes those above it, for each of the right sides; none is divided by, since the diagonal is ones."""
    *matrices, rows, _ = triangle
    return 2 * prod(matrices) * (rows * (rows - 1) // 2) * right[-1]
