"""The model that a command converts, with what it takes."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from las_sj.checkpoint.loading import default_model, load_ann
from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.weights import check_finite
from las_sj.commands.convert_data import Given
from las_sj.commands.convert_request import ConvertRequest
from las_sj.commands.media_options import check_takes
from las_sj.data.modalities import Modalities, modalities_of
from las_sj.data.processors import Processors


@dataclass(frozen=True)
class Source:
    """A model that is to be converted.

    Attributes:
        takes: what it takes.
        processors: of it.
        ann: the model.
    """

    takes: Modalities
    processors: Processors
    ann: PreTrainedModel


def load_source(request: ConvertRequest, model_class: Any, given: Given | None, places: dict[str, Any]) -> Source:
    """Load the model that is asked for; what does not go together is found before its weights are read.

    Args:
        request: names it.
        model_class: of transformers.
        given: data that were given, or None.
        places: as `placement.places_of` has them.

    Raises:
        ValueError, OSError, RuntimeError: the data are not what it takes, or it cannot be loaded.
    """
    name, takes = name_of(request), modalities_of(model_class)
    check_takes(name, takes, request.data_option, [] if given is None else given.examples)
    processors = load_processors(name, takes, request.trust, request.gguf_file)
    ann = load_original(request, model_class, places)
    check_finite(ann, name)
    return Source(takes, processors, ann)


def load_original(request: ConvertRequest, model_class: Any, places: dict[str, Any]) -> PreTrainedModel:
    """The model alone; arguments are those of `load_source`."""
    dtype = getattr(torch, request.dtype)
    return load_ann(model_class, name_of(request), request.gguf_file, dtype, request.device, places, request.trust)


def name_of(request: ConvertRequest) -> str:
    """Hub name or folder of the model."""
    return request.model or str(default_model())


def called(request: ConvertRequest) -> str:
    """The model, as reports call it."""
    return request.model or "the default model (GPT-2, Tiny Shakespeare)"
