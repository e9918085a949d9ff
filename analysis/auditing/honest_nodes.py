"""Does a population emit what its neurons are defined to emit? Nothing else inside of a node is audited."""

from typing import Any

import torch
from torch import Tensor

from las_sj.neurons import WindowNode
from las_sj.neurons.rate_coded import RateCodedNode


def expected_train(node: WindowNode | RateCodedNode, currents: Tensor, *others: Any) -> Tensor | None:
    """The train [T, B, ...] for currents [T_in, B, ...]; None where the node passes values through uncoded.

    Args:
        node: the neurons.
        currents: that they are given.
        others: what else: of rate codes the position of the first token.
    """
    if isinstance(node, RateCodedNode):
        return type(node).window_of(node, currents, *others)
    if node.bypass:
        return None
    return type(node).expected_train(node, currents)


def same_train(expected: Tensor | None, emitted: Any) -> bool:
    """Whether a node emitted what was expected of it; NaN where NaN was expected."""
    if expected is None or not isinstance(emitted, Tensor) or emitted.shape != expected.shape:
        return False
    return torch.allclose(emitted, expected, rtol=1e-5, atol=0.0, equal_nan=True)
