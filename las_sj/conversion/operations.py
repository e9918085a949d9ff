"""Conversion by operations: the populations of a model are found by running it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from las_sj.conversion.in_single_precision import in_single_precision
from las_sj.models import NeuronFactory, running
from las_sj.models.operations.model import begin, finish


@torch.no_grad()
def convert_operations(model: nn.Module, factory: NeuronFactory, calls: Iterable[dict[str, Any]]) -> None:
    """Find the operations of a model in some calls, uncoded, in both executions, and give them neurons.

    Args:
        model: any model.
        factory: makes the neurons.
        calls: keyword arguments of the model.

    Raises:
        UnsupportedModelError: a function that is called has no spiking form.
    """
    execution = begin(model, factory)
    with in_single_precision(model):
        for named in calls:
            model(**named)
        with running(model, "temporal"):
            model(**next(iter(calls)))
    finish(model, execution)
