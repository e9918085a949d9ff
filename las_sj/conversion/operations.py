"""Conversion by operations: the populations of a model are found by running it."""

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from las_sj.conversion.continuation import find_operations
from las_sj.conversion.in_single_precision import in_single_precision
from las_sj.data.batches import is_large
from las_sj.models import NeuronFactory, UnsupportedModelError, named_sites, running
from las_sj.models.few_steps import few_steps
from las_sj.models.operations.model import begin, finish, populations_of


@torch.no_grad()
def convert_operations(
    model: nn.Module,
    factory: NeuronFactory,
    calls: Sequence[dict[str, Any]],
    keep_analog: Iterable[str] = (),
    *,
    continues: bool = False,
) -> bool:
    """Find the operations of a model in some calls, uncoded, in both executions, and give them neurons.

    Args:
        model: any model.
        factory: makes the neurons.
        calls: keyword arguments of the model.
        keep_analog: patterns (as in fnmatch) of names of modules that stay as they are.
        continues: whether the model generates from the first of them.

    Returns:
        Whether the network does so too; if not, a warning says why, and it generates without a cache.

    Raises:
        UnsupportedModelError: a function that is called has no spiking form.
    """
    execution = begin(model, factory, keep_analog)
    for _, site in named_sites(model):  # of quantised activations, which are known before any call
        site.node.bypass = True
    with in_single_precision(model), few_steps(is_large(calls[0])):
        for named in calls:
            model(**named)
        with running(model, "temporal"):
            output = model(**calls[0])
        continues = continues and _continuation_is_found(model, calls[0], output)
    finish(model, execution)
    return continues


def _continuation_is_found(model: nn.Module, call: dict[str, Any], output: Any) -> bool:
    try:
        find_operations(model, call, partial(_populations, model), output)
    except UnsupportedModelError as error:
        warnings.warn(
            f"{type(model).__name__} generates without its cache only (use_cache=False): {error}", stacklevel=2
        )
        return False
    return True


def _populations(model: nn.Module) -> int:
    return sum(len(found.kinds) for _, found in populations_of(model))
