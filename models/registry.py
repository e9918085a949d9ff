"""Model families: what the conversion must know about a modelling file beyond the types of its modules."""

from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import PretrainedConfig, PreTrainedModel

Check = Callable[[PretrainedConfig], str | None]


@dataclass(frozen=True)
class Family:
    """One model family.

    Args:
        model_types: `config.model_type` values that belong to it.
        attention: class name of an attention module → names of the linear layers that its hidden_states go to
            (coded once for all of them), or () where one layer takes them.
        readouts: attribute names of output layers besides `get_output_embeddings()`.
        unsupported: tells from a config which of its options the family's conversion does not know, or None.
    """

    model_types: tuple[str, ...]
    attention: dict[str, tuple[str, ...]]
    readouts: tuple[str, ...] = ()
    unsupported: Check = field(default=lambda config: None)


FAMILIES: dict[str, Family] = {}


class UnsupportedModelError(ValueError):
    """The model cannot be converted; the message says why and what can."""


def register_family(family: Family) -> Family:
    """Make a family known under its model types."""
    for model_type in family.model_types:
        FAMILIES[model_type] = family
    return family


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model.

    Raises:
        UnsupportedModelError: an unknown family, or an option that its conversion does not know.
    """
    model_type = model.config.model_type
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModelError(f"model type {model_type!r} is not supported; known types: {known}")
    family = FAMILIES[model_type]
    option = family.unsupported(model.config)
    if type(model).__name__.endswith("ForMultipleChoice"):
        option = "a multiple-choice head"
    if option is not None:
        raise UnsupportedModelError(f"{model_type} with {option} is not supported")
    return family
