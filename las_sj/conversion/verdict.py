"""The second judge of a conversion by operations: what an audit finds to be analog is kept in the model's coverage."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from las_sj.data.batches import Batch, is_large, shortened
from las_sj.models import execution_of
from las_sj.models.swap import keep_coverage

TOKENS = 4  # of text that are audited
_OF_TEXT = ("input_ids", "mask", "token_type_ids", "position_ids", "labels", "use_cache")  # ends of names


def keep_verdict(model: nn.Module, batch: Batch) -> None:
    """Audit a small call of a converted model, and keep in its coverage what is analog, by module and function.

    The verdict of a model that takes no text, and large images or sound, is left open: it would take longer than the
    conversion. `las_sj.analysis.audit` gives it.

    Args:
        model: a converted model.
        batch: keyword arguments of a call.
    """
    from las_sj.analysis.auditing.audit import audit  # with all of analysis, which `import las_sj` does not wait for

    for small in _small_calls(batch):
        try:
            found = audit(model, small)
        except (RuntimeError, IndexError, ValueError):
            continue  # too few tokens for this model
        analog: dict[str, tuple[str, ...]] = {}
        for row in found.analog:
            analog[row.module] = tuple(dict.fromkeys((*analog.get(row.module, ()), row.name)))
        keep_coverage(model, replace(execution_of(model).coverage, analog_operations=analog))
        return


def _small_calls(batch: Batch) -> Iterator[dict[str, Any]]:
    """The first tokens of a text; a batch as it is, if it is small."""
    if all(name.endswith(_OF_TEXT) for name in batch):
        yield shortened(batch, TOKENS)
    if not is_large(batch):
        yield dict(batch)
