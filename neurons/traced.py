"""How nodes and layers call their operators (`operators`) where torch writes a call down, to compile or to export it.

Whatever is decided here holds for every input: there are no values yet.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.neurons import watching
from las_sj.neurons.kernels import host

Operands = tuple[list[Tensor], list[int], list[str], list[str]]


def population(node: Any, x: Tensor, *, as_train: bool) -> Tensor | None:
    """What the neurons of a node emit, by its operator.

    Args:
        node: a `WindowNode` that nobody observes.
        x: currents [S, B, ...] for a train, or their sum [B, ...].
        as_train: whether the train [T, B, ...] is wanted, or its sum [B, ...].

    Returns:
        What was emitted; None where there is no operator for the node.
    """
    if node.signature is None:
        return None
    y: Tensor = torch.ops.las_sj.population(x, node.operands, node.signature, as_train, node.population.tag)
    return y


def layer_operands(nodes: Sequence[Any], x: Tensor, *, as_train: bool) -> Operands | None:
    """What an operator of a layer is told of its nodes; None where they run one by one.

    Args:
        nodes: of the layer.
        x: currents [S, ...].
        as_train: whether trains are wanted.

    Returns:
        All of their tables, how many each has, and their signatures and tags.
    """
    mode, trained = "m" if as_train else "s", torch.is_grad_enabled()
    for node in nodes:
        if node.step_mode != mode or node.is_observed or node.signature is None or (trained and node.is_watched(x)):
            return None
        if node.time_steps != nodes[0].time_steps or node.backend not in ("auto", "host"):
            return None
        for theta in watching.parameters_of(node).values():
            if theta is not None and theta.dim():
                return None
    if x.device.type != "cpu" or not _kernels_are_there():
        return None
    tables = [node.operands for node in nodes]
    flat = [table for each in tables for table in each]
    return flat, [len(each) for each in tables], [n.signature for n in nodes], [n.population.tag for n in nodes]


@torch.compiler.assume_constant_result
def _kernels_are_there() -> bool:
    return host.load() is not None
