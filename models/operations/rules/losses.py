"""Losses: no part of the network, they are computed from what it gives out."""

from typing import Any

from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule


@rule(
    """
    cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss
    huber_loss kl_div ctc_loss gaussian_nll_loss poisson_nll_loss cosine_embedding_loss margin_ranking_loss
    hinge_embedding_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss soft_margin_loss
    """
)
def loss(op: Operation, *args: Any, **kwargs: Any) -> Tensor:
    """A loss, as the ANN computes it; in time it is refused, where what it is compared with has no time steps."""
    if op.time_steps > 1:
        raise op.refusal("in time (compute it from the outputs, or set the accumulated execution)")
    output: Tensor = op.function(*args, **kwargs)
    return output
