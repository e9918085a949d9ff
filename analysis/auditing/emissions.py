"""Which neurons a number is a spike of, and of which time step: kept for each number, so that it may be moved.

Each number has a code. `SILENT` is for what no neuron emitted, which is no spike unless it is 0. `ANALOG` is for what
is none in any case. Above these there is one for each node, time step and threshold.
"""

import torch
from torch import Tensor

from las_sj.neurons import ThresholdNode
from las_sj.neurons.rate_coded import QCFSWindowNode, RateCodedNode

SpikingNode = ThresholdNode | QCFSWindowNode | RateCodedNode  # whose trains are spikes

SILENT, ANALOG = 0, -1


class Emissions:
    """Gives out the codes of all trains of a call, and says what they stand for."""

    def __init__(self) -> None:
        self._nodes: list[SpikingNode] = []
        self._first: list[int] = []  # code of each node's first time step and threshold
        self._next = SILENT + 1

    def codes_of_train(self, node: SpikingNode, shape: torch.Size, device: torch.device) -> Tensor:
        """The code of each number of a train that `node` emitted, float64 of that shape, [T, ...]."""
        places = _threshold_places(node)
        steps = torch.arange(shape[0], dtype=torch.float64) * places.numel()
        codes = self._first_code(node) + steps.view(-1, *[1] * (len(shape) - 1)) + places
        return codes.to(device).expand(shape)

    def _first_code(self, node: SpikingNode) -> int:
        for known, first in zip(self._nodes, self._first, strict=True):
            if known is node:
                return first
        self._nodes.append(node)
        self._first.append(self._next)
        self._next += node.time_steps * _threshold_places(node).numel()
        return self._first[-1]

    def are_spikes(self, values: Tensor, codes: Tensor, rounded_to: torch.dtype) -> bool:
        """Whether each of some numbers is 0 or a spike of its neuron at its time step, and steps are in their order.

        Args:
            values, codes: the numbers, and the code of each, [...].
            rounded_to: the coarsest type that the numbers have had.
        """
        fired = values != 0  # as NaN is
        if not self._nodes or bool((codes[fired] <= SILENT).any()):
            return False
        first = torch.tensor(self._first, dtype=torch.float64, device=codes.device)
        counts = torch.tensor([_threshold_places(node).numel() for node in self._nodes], device=codes.device)
        owner = torch.searchsorted(first, codes.contiguous(), right=True) - 1
        place = (codes - first[owner.clamp(min=0)]).long()
        steps = torch.where(codes > SILENT, place // counts[owner.clamp(min=0)], -1)
        return _are_in_order(steps) and all(
            _are_amplitudes(values[own], self._nodes[index], place[own], rounded_to)
            for index in owner[fired].unique().tolist()
            for own in [fired & (owner == index)]
        )


def _are_in_order(steps: Tensor) -> bool:
    """Whether time steps [...], −1 where there is none, go on along one axis, once or again and again."""
    known = steps >= 0
    if not bool(known.any()):
        return True
    start = steps[known].min()
    for axis in range(steps.dim()):
        rows = steps.movedim(axis, 0).flatten(1) if steps.dim() > 1 else steps.unsqueeze(1)
        latest = rows.amax(1)
        earliest = torch.where(rows >= 0, rows, latest.unsqueeze(1)).amin(1)
        if bool((earliest == latest).all()):
            along = latest[latest >= 0]
            return bool(along[0] == start) and bool(((along.diff() >= 0) | (along[1:] == start)).all())
    return steps.dim() == 0


def _threshold_places(node: SpikingNode) -> Tensor:
    """A number for each threshold of a sub-neuron, as thresholds broadcast to its membrane potentials: 0 for one."""
    most = node.theta if isinstance(node, RateCodedNode) else max(node.parameters(), key=Tensor.numel)
    return torch.arange(most.numel(), dtype=torch.float64).view(most.shape)


def _are_amplitudes(values: Tensor, node: SpikingNode, places: Tensor, dtype: torch.dtype) -> bool:
    """Whether each of some numbers [N] is a spike of the node; its place counts time steps and thresholds."""
    if isinstance(node, ThresholdNode):
        return _are_levels(values.abs().double(), node, places, dtype)
    scale = node.scale.detach().double().reshape(-1)
    scale = scale[places % len(scale)]
    return bool(((values.double() / scale - 1).abs() <= 4 * torch.finfo(dtype).eps).all())


def _are_levels(sizes: Tensor, node: ThresholdNode, places: Tensor, dtype: torch.dtype) -> bool:
    """Whether each |s| [N] is θ(t)(1 + j/n) of a sub-neuron; its place counts time steps and thresholds."""
    count = _threshold_places(node).numel()
    step, n = places // count, node.code.levels
    highest = torch.where(step == 0, 2 * n, 2 * n - 1)
    scaled = sizes * torch.exp2(step.double() + 1)
    allowed = torch.zeros_like(scaled, dtype=torch.bool)
    for threshold in node.parameters():
        base = threshold.detach().double().reshape(-1)
        base = base[places % count] if base.numel() > 1 else base
        level = scaled / (base * _octave(scaled / base, node)) * n
        whole = level.round()
        exact = (level - whole).abs() <= 4 * n * torch.finfo(dtype).eps
        allowed |= exact & (whole >= n) & (whole <= highest)
    return bool(allowed.all())


def _octave(size: Tensor, node: ThresholdNode) -> Tensor | float:
    """2^k of the octave that spikes of these sizes, in units of a threshold, can be of; 1 without octave gates."""
    if node.octaves is None:
        return 1.0
    whole = size.clamp(min=torch.finfo(size.dtype).tiny) * (1 + 2.0**-16)  # spikes are rounded
    return torch.exp2(whole.log2().floor().clamp(min=0.0))
