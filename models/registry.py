"""Model families: what the conversion must know about a modelling file beyond the types of its modules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from las_sj.models.heads import chooses_answers
from las_sj.models.layers.spiking_layer import KnowsCalls, SpikingLayer

Check = Callable[[PretrainedConfig], str | None]
Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Family:
    """One model family.

    Args:
        model_types: `config.model_type` values that belong to it, also as a part of another model.
        attention: class name of an attention module → names of the linear layers that its hidden_states go to
            (coded once for all of them), or () where one layer takes them.
        readouts: names (patterns, as in fnmatch) of output layers besides `get_output_embeddings()`.
        layers: class name → spiking layer, for modules whose forward method computes more than the modules in them.
        named_layers: name of a module (pattern) → spiking layer, likewise.
        activated: class name → names of an activation in it, and of the linear layer in it that takes the activation's
            output, which goes nowhere else.
        constants: class name → parameters that its forward method adds to currents.
        batch_state: class name → mixin with `RowsOfSequences`, for modules that keep such tensors between calls.
        unsupported: tells from a config which of its options the family's conversion does not know, or None.
    """

    model_types: tuple[str, ...]
    attention: Names = field(default_factory=dict)
    readouts: tuple[str, ...] = ()
    layers: Mapping[str, type[SpikingLayer]] = field(default_factory=dict)
    named_layers: Mapping[str, type[SpikingLayer]] = field(default_factory=dict)
    activated: Names = field(default_factory=dict)
    constants: Names = field(default_factory=dict)
    batch_state: Mapping[str, type[KnowsCalls]] = field(default_factory=dict)
    unsupported: Check = field(default=lambda config: None)

    def __or__(self, other: "Family") -> "Family":
        """What is known of a model with parts of both families."""
        return Family(
            self.model_types + other.model_types,
            {**self.attention, **other.attention},
            self.readouts + other.readouts,
            {**self.layers, **other.layers},
            {**self.named_layers, **other.named_layers},
            {**self.activated, **other.activated},
            {**self.constants, **other.constants},
            {**self.batch_state, **other.batch_state},
        )


FAMILIES: dict[str, Family] = {}


class UnsupportedModelError(ValueError):
    """The model cannot be converted; the message says why and what can."""


def register_family(family: Family) -> Family:
    """Make a family known under its model types."""
    for model_type in family.model_types:
        FAMILIES[model_type] = family
    return family


def family_of_config(config: PretrainedConfig) -> Family:
    """What is known of models with this config, of the parts inside them too.

    Raises:
        UnsupportedModelError: an unknown family, or an option that its conversion does not know.
    """
    if config.model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModelError(f"model type {config.model_type!r} is not supported; known types: {known}")
    family = FAMILIES[config.model_type]
    option = family.unsupported(config)
    for name, part in _parts(config):
        if part.model_type not in FAMILIES:
            option = f"{name} of type {part.model_type!r}"
        else:
            family |= FAMILIES[part.model_type]
            option = option or FAMILIES[part.model_type].unsupported(part)
        if option is not None:
            break
    if option is not None:
        raise UnsupportedModelError(f"{config.model_type} with {option} is not supported")
    return family


def family_of(model: PreTrainedModel) -> Family:
    """What is known of a model's family.

    Raises:
        UnsupportedModelError: an unknown family, an option or a head that its conversion does not know.
    """
    if chooses_answers(model):
        raise UnsupportedModelError(f"{model.config.model_type} with a multiple-choice head is not supported")
    return family_of_config(model.config)


def is_of_known_family(model: nn.Module) -> TypeGuard[PreTrainedModel]:
    """Whether the conversion knows a model's family, its options and its head."""
    if not isinstance(model, PreTrainedModel):
        return False
    try:
        family_of(model)
    except UnsupportedModelError:
        return False
    return True


def _parts(config: PretrainedConfig) -> Iterator[tuple[str, PretrainedConfig]]:
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PretrainedConfig):
            yield name, part
