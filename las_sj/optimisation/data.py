"""Batches as an optimisation takes them: without targets, and with something that is not padding."""

from collections.abc import Iterable

from torch import Tensor

from las_sj.conversion.calibration import checked_batch
from las_sj.data.batches import Batch
from las_sj.models.inputs import TARGETS
from las_sj.optimisation.errors import OptimisationError


def batches_for(purpose: str, batches: Iterable[Batch]) -> list[Batch]:
    """Batches without targets: a loss is not part of the network, and would come first among its outputs.

    Args:
        purpose: what they are for, in words.
        batches: dicts of keyword arguments.

    Raises:
        CalibrationError: one is empty, or no mapping.
        OptimisationError: one holds nothing but padding.
    """
    kept: list[Batch] = []
    for number, batch in enumerate(batches, 1):
        named = {name: value for name, value in checked_batch(batch).items() if name not in TARGETS}
        mask = named.get("attention_mask")
        if isinstance(mask, Tensor) and not bool(mask.bool().any()):
            raise OptimisationError(f"batch {number} for {purpose} is all padding: leave it out")
        kept.append(named)
    return kept
