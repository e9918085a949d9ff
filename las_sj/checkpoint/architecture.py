"""The class that a model's config.json names: of transformers or, where that is trusted, of the model's own code."""

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from las_sj.reasons import reason_of


def class_of(config: PretrainedConfig, name: str | Path, trust: bool = False) -> Any:
    """The class that config.json names; that without a head where it names none.

    Args:
        config: of the model.
        name: a hub name or a folder.
        trust: whether code that comes with the model may run; then it does, where there is any.

    Raises:
        OSError: it is no class of transformers for models of this type, or the model's code does not work.
    """
    named = config.architectures
    architecture = ((named if isinstance(named, list) else [named]) or [None])[0]
    own = getattr(config, "auto_map", None) or {}
    if trust and any(auto != "AutoConfig" for auto in own):
        return _class_of_its_own(own, architecture, name)
    if architecture is None:
        return _without_head(config)
    known = getattr(transformers, str(architecture), None)
    kind = getattr(known, "config_class", None)
    if isinstance(known, type) and issubclass(known, PreTrainedModel) and kind and isinstance(config, kind):
        return known
    raise OSError(
        f"config.json of {name} names {architecture!r} in architectures, which is no class of transformers for models "
        f"of type {config.model_type!r}: name the class that was saved"
    )


def _without_head(config: PretrainedConfig) -> Any:
    """The class of a model without a head; where transformers has none of this type, `AutoModel`, which says so."""
    found = AutoModel._model_mapping.get(type(config), AutoModel)
    return found[0] if isinstance(found, tuple | list) else found


def _class_of_its_own(auto_map: dict[str, str], architecture: str | None, name: str | Path) -> Any:
    """The class of the model's code that is named, or the first one, known to transformers as the code says."""
    classes = {auto: place for auto, place in auto_map.items() if auto.startswith("AutoModel")}
    fitting = [auto for auto, place in classes.items() if place.rpartition(".")[2] == architecture]
    auto = next(iter([*fitting, *classes]), None)
    if auto is None:
        raise OSError(f"auto_map in config.json of {name} names no model: give a model with its code")
    try:
        model_class: Any = get_class_from_dynamic_module(classes[auto], str(name))
    except Exception as error:  # anything may go wrong in somebody's code
        raise OSError(f"the code of {name} cannot be loaded ({reason_of(error)}): mend it, or give another") from error
    model_class.register_for_auto_class(auto)
    return model_class
