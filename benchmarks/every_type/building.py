"""A tiny model of an entry, and inputs that it takes; the ANN is run on them."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

from every_type.batches import Batch, Inputs
from every_type.comparing import first_output
from every_type.configurations import parts_of, tiny_configurations
from every_type.inputs import inputs_of
from every_type.mappings import Entry
from every_type.weights import Model, randomize

LARGEST = 100_000_000  # parameters; where more are left, rules for shrinking are missing
_COUNTS = re.compile(r"tokens:? ?(\d+).*features:? ?(\d+)", re.DOTALL)  # in messages of transformers


class NotRun(Exception):  # noqa: N818 - it is no fault of the caller
    """The tiny model could not be built, or took none of the inputs; the message has every attempt's reason."""


@dataclass(frozen=True)
class Subject:
    """A tiny model that runs.

    Args:
        model: the ANN.
        inputs: that it takes.
    """

    model: Model
    inputs: Inputs

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())


def build(entry: Entry) -> Subject:
    """The tiny model of an entry.

    Raises:
        NotRun: there is none, or it takes none of the inputs.
    """
    reasons: list[str] = []
    for way, make in tiny_configurations(entry.model_type):
        try:
            model = _model(entry, make)
        except Exception as error:
            reasons.append(f"{way}: {_one_line(error)}")
            continue
        for inputs in inputs_of(model, entry.mapping):
            found = _taken(model, inputs, reasons, way)
            if found is not None:
                return Subject(model, found)
    raise NotRun(" | ".join(dict.fromkeys(reasons)) or "no inputs are known for it")


def _model(entry: Entry, make: Callable[[], PreTrainedConfig]) -> Model:
    architecture = getattr(transformers, entry.architecture)
    config = _own(make(), getattr(architecture, "config_class", None))
    for owner in (config, *(part for _, part in parts_of(config))):
        if hasattr(owner, "use_cache"):
            owner.use_cache = False
    if entry.model_type == "reformer":
        config.is_decoder = entry.mapping == "causal-lm"
    if not hasattr(config, "pad_token_id"):
        config.pad_token_id = 0
    if getattr(config, "is_encoder_decoder", False) and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = 1  # that generation begins with
    _check_size(architecture, config)
    torch.manual_seed(0)
    return randomize(architecture(copy.deepcopy(config)))


def _own(config: PreTrainedConfig, kind: type | None) -> PreTrainedConfig:
    """The part of a configuration that an architecture takes: of a model with images, its text's."""
    if kind is None or isinstance(config, kind):
        return config
    return next((part for _, part in parts_of(config) if isinstance(part, kind)), config)


def _check_size(architecture: Any, config: PreTrainedConfig) -> None:
    try:
        with torch.device("meta"):
            model = architecture(copy.deepcopy(config))
    except (NotImplementedError, RuntimeError):  # some compute with their weights while they are built
        return
    size = sum(weight.numel() for weight in model.parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters")


def _taken(model: Model, inputs: Inputs, reasons: list[str], way: str) -> Inputs | None:
    """The inputs if the model takes them, maybe with another number of tokens for an image, or None."""
    try:
        _run(model, inputs.make(1))
    except Exception as error:
        reasons.append(f"{way}, {inputs.kind}: {_one_line(error)}")
        found = _COUNTS.search(str(error))
        if inputs.recount is None or found is None:
            return None
        rows = len(inputs.make(1)["input_ids"])
        again = inputs.recount(int(found[2]) // rows)
        try:
            _run(model, again.make(1))
        except Exception as other:
            reasons.append(f"{way}, {inputs.kind}, {found[2]} features: {_one_line(other)}")
            return None
        return again
    return inputs


@torch.no_grad()
def _run(model: Model, batch: Batch) -> None:
    if not bool(torch.isfinite(first_output(model(**batch))).all()):
        raise ValueError("the output is not finite")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
