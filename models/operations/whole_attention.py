"""Attention as one operation, where nobody watches its populations: tile by tile, each operand coded once.

Softmax depends on what its neurons receive over the window: the sum over T of S_q(t)·k(t) + q(t)·S_k(t−1), which is
S_q(T)·S_k(T). So that product is handed on, as kernels of `neurons.fused` hand on sums of windows. What leaves the
layer is a train of spike products.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from las_sj.models.layers.products import matmul, spiking_matmul
from las_sj.models.layers.score_mask import HiddenPairs, ScoreMask, looked_over
from las_sj.models.layers.tiles import Operands, tiles_of
from las_sj.models.operations.populations import Populations
from las_sj.models.operations.scope import Scope
from las_sj.models.operations.time_axis import TimeAxis, mark, time_axis_of
from las_sj.neurons import HGNode, WindowNode, fused, watching
from las_sj.neurons.buffers import BUFFERS
from las_sj.neurons.precision import at_least_single


@dataclass(frozen=True)
class AttentionNodes:
    """The populations of attention.

    Attributes:
        query, key, value: of its operands.
        softmax: of exponentials, weights, reciprocals, scale and probabilities.
    """

    query: WindowNode
    key: WindowNode
    value: WindowNode
    softmax: tuple[HGNode, WindowNode, HGNode, WindowNode, WindowNode]


class WholeAttention:
    """Attention of one module in one call.

    Args:
        scope: of the call.
        populations: of the module.
        nodes: those of attention.
    """

    def __init__(self, scope: Scope, populations: Populations, nodes: AttentionNodes) -> None:
        self.scope = scope
        self.populations = populations
        self.nodes = nodes

    def fits(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
        """Whether tensors are as `run` takes them, and nobody watches one of the populations."""
        axes = {time_axis_of(x) for x in (query, key, value)}
        if axes != {TimeAxis(0)} or (mask is not None and (time_axis_of(mask) is not None or not _is_added(mask))):
            return False
        operands = (self.nodes.query, self.nodes.key, self.nodes.value)
        if self.scope.operated.dense is not None or self.populations.recorders:
            return False
        if any(node.is_watched(query) for node in operands):
            return False
        return fused.fusable(self.nodes.softmax, query, as_train=self.scope.temporal)

    def run(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        """Attend.

        Args:
            query: currents [T·B, H, S_q, D].
            key, value: currents [T·B, H_kv, S_k, D], H a multiple of H_kv.
            mask: what is added to the scores, [B or more, 1 or H, S_q, S_k or more], or None.
            scaling: factor of the scores.

        Returns:
            Currents [T·B, S_q, H, D].
        """
        operands = self._operands(query, key, value)
        batch, heads, groups, queries, _ = operands.shape
        looked = None
        if mask is not None:
            mask = mask if mask.shape[-1] == key.shape[2] else mask[..., : key.shape[2]]  # itself is looked over once
            looked = looked_over(mask, operands.shape[:4], self.scope.execution.call)
        shape = (*operands.value.shape[:-4], batch, queries, heads, groups, value.shape[-1])
        output = BUFFERS.empty(shape, value)
        self._attend(operands, looked, scaling, output)
        return mark(output.view(*query.shape[:1], queries, -1, value.shape[-1]), TimeAxis(0))

    def _attend(self, operands: Operands, mask: ScoreMask | None, scaling: float, output: Tensor) -> None:
        """Write what attention gives into [..., B, S_q, H_kv, G, D], tile by tile."""
        tiles, dtype = tiles_of(operands, mask), at_least_single(operands.query.dtype)  # as of the scores
        if len(tiles) < 2:
            output.copy_(self._of_tile(operands, None if mask is None else mask.whole(dtype), scaling))
            return
        for tile in tiles:
            hidden = None if mask is None else mask.part(tile.batch, tile.heads, tile.block, dtype)
            part = output[..., tile.batch, tile.block.queries, tile.heads, :, :]
            part.copy_(self._of_tile(operands.of(tile), hidden, scaling))

    def _operands(self, query: Tensor, key: Tensor, value: Tensor) -> Operands:
        """Spikes: of queries and keys their sums over the window, which softmax depends on; trains of values."""
        groups = query.shape[1] // key.shape[1]
        queries, keys = self._coded(self.nodes.query, query), self._coded(self.nodes.key, key)
        values = self._coded(self.nodes.value, value)
        if self.scope.temporal:
            queries, keys = queries.sum(0), keys.sum(0)
        return Operands(queries.unflatten(-3, (-1, groups)), keys, values)

    def _coded(self, node: WindowNode, x: Tensor) -> Tensor:
        """The spikes of a current, [T, B, ...]; their sum [B, ...] in accumulated calls."""
        if not self.scope.temporal:
            return self.populations.fire(node, x)
        return self.populations.emit(node, x.unflatten(0, (self.scope.time.time_steps, -1)))

    def _of_tile(self, operands: Operands, mask: Tensor | HiddenPairs | None, scaling: float) -> Tensor:
        """Attend for some heads and queries, [..., B', S', H', G, D]."""
        query, key, value = operands.query, operands.key, operands.value
        groups = query.shape[-3]
        if operands.shape[-1] == 0:  # the mask hides all
            return value.new_zeros(())
        scores = matmul(query.flatten(-3, -2), key.mT).mul_(scaling).unflatten(-2, (groups, -1))
        if isinstance(mask, HiddenPairs):
            scores, mask = mask.hide(scores, 1), None
        coded = fused.softmax(self.nodes.softmax, scores.unsqueeze(0), mask, as_train=self.scope.temporal)
        assert coded is not None
        probabilities, multiply = coded.flatten(-3, -2), spiking_matmul if self.scope.temporal else torch.matmul
        return multiply(probabilities.to(value.dtype), value).unflatten(-2, (groups, -1)).movedim(-2, -4)


def _is_added(mask: Tensor) -> bool:
    """Whether a mask is added to scores, and nothing is learned of it."""
    return mask.dim() == 4 and mask.is_floating_point() and not watching.keeps_gradient(mask, ())
