"""Weights of a checkpoint: all of them loaded, all of them finite, none of them lost."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.checkpoint.placement import weights_of
from las_sj.checkpoint.source import INDEX, WEIGHTS, read_json
from las_sj.reasons import reason_of

# Of no use to a model that has no place for it: buffers that older versions wrote, BERT's next-sentence head, a pooler.
HARMLESS = re.compile(
    r"(^|\.)(position_ids|masked_bias|rotary_emb\.inv_freq|cls\.seq_relationship\.\w+)$|(^|\.)pooler\."
)


def load_weights(
    model_class: Any,
    name: str | Path,
    *,
    new_head: bool = False,
    of_converted: bool = False,
    trust: bool = False,
    **options: Any,
) -> Any:
    """A model with all weights of its checkpoint, which are read from safetensors or GGUF files alone.

    Args:
        model_class: with `from_pretrained`.
        name: a hub name or a folder.
        new_head: whether weights of the head may be missing, and those of another head left out.
        of_converted: whether thresholds and tables of neurons are left out, and nothing is said of what else is.
        trust: whether code that comes with the model may run.
        options: for `from_pretrained`.

    Raises:
        OSError: they cannot be read, some are missing, or some would be lost.
    """
    safe = {} if "gguf_file" in options else {"use_safetensors": True}
    try:
        model, info = model_class.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=trust, **safe, **options
        )
    except SafetensorError as error:
        raise OSError(f"the weights in {name} cannot be read ({error}): download or save them again") from None
    except BrokenCheckpointError as error:
        raise OSError(f"the model in {name} cannot be loaded: {error}") from error
    except Exception as error:  # a configuration that nothing can be built from ends in any error at all
        raise OSError(
            f"the model in {name} cannot be loaded ({reason_of(error)}): mend its config.json, or download it again"
        ) from error
    shapes = sorted(info["mismatched_keys"])
    if new_head and shapes and not any(_is_of_body(model, key) for key, *_ in shapes):
        raise OSError(f"the head of {name} is for other classes ({shapes[0][0]}): give the model without it")
    _check_shapes(shapes, name)
    missing, lost = info["missing_keys"], [key for key in info["unexpected_keys"] if not HARMLESS.search(key)]
    if new_head:
        missing = [key for key in missing if _is_of_body(model, key) and "pooler" not in key]
        lost = [key for key in lost if _is_of_body(model, key)]
    if of_converted:
        lost = []
    kind = type(model).__name__
    if missing:
        raise OSError(f"the checkpoint of {name} lacks weights of {kind}: {_some(missing)}; {BELONG}")
    if _lacks_head(model, Path(name)):
        raise OSError(
            f"the weights in {name} are of a model with a head ({model.base_model_prefix}.…), and {kind} has none: "
            "name the class that was saved in architectures of config.json"
        )
    if lost:
        raise OSError(f"the checkpoint of {name} has weights that {kind} has no place for: {_some(lost)}; {BELONG}")
    return model


BELONG = "give weights and a config.json that belong together (architectures, sizes, number of layers)"


def _check_shapes(mismatched: Collection[tuple[str, Any, Any]], name: str | Path) -> None:
    for key, found, wanted in mismatched:
        raise OSError(f"{key} in {name} has shape {[*found]}, but config.json asks for {[*wanted]}; {BELONG}")


def _is_of_body(model: PreTrainedModel, key: str) -> bool:
    """Whether a weight belongs to what heads stand on, by its name in a model with a head or without one."""
    first = key.split(".")[0]
    return first == model.base_model_prefix or first in dict(model.base_model.named_children())


def _lacks_head(model: PreTrainedModel, folder: Path) -> bool:
    """Whether weights of a model with a head, which may be tied, were read into one without."""
    prefix = model.base_model_prefix
    return (
        bool(prefix)
        and not hasattr(model, prefix)
        and any(name.startswith(f"{prefix}.") for name in stored_names(folder))
    )


def _some(keys: Collection[str]) -> str:
    return min(keys) if len(keys) == 1 else f"{min(keys)} and {len(keys) - 1} more"


def broken_weight(model: nn.Module) -> str | None:
    """The name of a weight that is infinite or NaN; None where all are finite."""
    for name, parameter in weights_of(model):
        if parameter.is_floating_point() and parameter.numel():
            extremes = torch.aminmax(parameter.detach())  # without a copy of it
            if not all(bool(torch.isfinite(extreme)) for extreme in extremes):
                return name
    return None


def check_finite(model: PreTrainedModel, name: str | Path) -> None:
    """Raise an OSError where a weight of the model that was read from `name` is infinite or NaN."""
    broken = broken_weight(model)
    if broken is not None:
        narrow = " (or give --dtype float32)" if model.dtype == torch.float16 else ""
        raise OSError(
            f"weight {broken} in {name} has infinite or NaN values: the checkpoint is broken, save it again{narrow}"
        )


def check_depth(config: PretrainedConfig, folder: Path) -> None:
    """Raise an OSError where config.json asks for more layers than there are weights: making them might never end."""
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    depths = [getattr(part, name, None) for part in parts for name in ("num_hidden_layers", "depth")]
    layers = max((depth for depth in depths if isinstance(depth, int)), default=0)
    try:
        stored = len(stored_names(folder))
    except SafetensorError:
        return  # `load_weights` says it
    if layers > stored > 0:
        raise OSError(
            f"config.json of {folder} asks for {str(layers)[:20]} layers, but there are {stored} weights; {BELONG}"
        )


def stored_names(folder: Path) -> set[str]:
    """The names of all weights in a folder."""
    if (folder / WEIGHTS).exists():
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return set(file.keys())
    return set(read_json(folder / INDEX).get("weight_map", {})) if (folder / INDEX).exists() else set()
