"""Multiply-accumulates of the energy report against those that PyTorch counts in the ANN."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from every_type.building import Subject
from every_type.weights import Model
from las_sj.analysis import SpikeMonitor
from las_sj.analysis.energies.operations import count_operations
from las_sj.models import running
from las_sj.models.operations.attention import keep_order_of_tokens


def same_macs(snn: Model, subject: Subject) -> str:
    """ "equal", or by how much the report has more than the ANN."""
    expected = _counted_by_torch(subject)
    with torch.no_grad(), running(snn, "accumulated"), SpikeMonitor(snn) as monitor:
        snn(**subject.inputs.make(1))
    found = sum(row.macs for row in count_operations(monitor))
    return "equal" if found == expected else f"{found / expected - 1:+.1%}"


def _counted_by_torch(subject: Subject) -> float:
    """Matrix products and convolutions, two operations a MAC.

    The counter knows neither fused attention of a processor nor grouped experts; layers of torch take no short cuts
    where there are gradients.
    """
    ann = copy.deepcopy(subject.model)
    ann.set_attn_implementation("eager")
    keep_order_of_tokens(ann)
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        ann(**subject.inputs.make(1))
    return counter.get_total_flops() / 2
