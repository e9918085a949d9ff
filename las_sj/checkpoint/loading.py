"""Load the model to convert: a hub name, a local folder, a GGUF file, or the default model of this package."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from las_sj.checkpoint.quantizer import METHOD
from las_sj.checkpoint.source import NEEDS_CODE, check_source
from las_sj.checkpoint.tokenizer import has_tokenizer, load_tokenizer
from las_sj.checkpoint.weights import check_depth, check_finite, load_weights
from las_sj.extras import require_extra
from las_sj.models import UnsupportedModelError, family_of_config
from las_sj.reasons import reason_of


def default_model() -> Path:
    """The folder of the default model, with its texts: calibration.txt and evaluation.txt."""
    return Path(str(files("las_sj.default_model")))


def load_model(
    name: str,
    gguf_file: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    places: dict[str, Any] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model with the class that its checkpoint names, and its tokenizer. Never runs remote code.

    Args:
        name: a hub name or a folder.
        gguf_file: file name within it, for GGUF checkpoints.
        dtype, device: of the weights.
        places: `device_map` and what belongs to it, for models that do not fit one device (accelerate).

    Raises:
        UnsupportedModelError: the architecture cannot be converted; found before any weights are loaded.
        OSError, ValueError: nothing that can be loaded is there.
        MissingExtraError: what reads GGUF is not installed.
    """
    extra: dict[str, Any] = {} if gguf_file is None else {"gguf_file": gguf_file}
    model_class = _convertible_class(name, gguf_file)
    tokenizer = load_tokenizer(name, **extra)
    model = load_weights(model_class, name, dtype=dtype, **extra, **(places or {}))
    if gguf_file is not None:
        model = _without_quantisation(model)
    return model.eval() if places else model.to(device).eval(), tokenizer


def _convertible_class(name: str, gguf_file: str | None) -> Any:
    """The class of a model to convert, found before any weights are loaded.

    Raises:
        UnsupportedModelError: the model cannot be converted.
    """
    config = read_config(name, gguf_file)
    family_of_config(config)
    if getattr(config, "quantization_config", None) is not None and gguf_file is None:
        method = dict(config.quantization_config).get("quant_method")
        raise UnsupportedModelError(f"{name} is quantised already ({method}): give the original model")
    model_class = _class_of(config, name) if gguf_file is None else AutoModelForCausalLM
    if "image" in getattr(model_class, "input_modalities", ()):
        raise UnsupportedModelError(
            f"{name} takes images, which this command has none of: convert it in Python, with batches of its processor "
            "(las_sj.convert)"
        )
    return model_class


def read_config(name: str, gguf_file: str | None = None) -> PretrainedConfig:
    """The configuration of a model. Never runs remote code.

    Args:
        name: a hub name or a folder.
        gguf_file: file name within it, for GGUF checkpoints.

    Raises:
        OSError, ValueError: there is none, or it asks for more layers than there are weights.
        MissingExtraError: what reads GGUF is not installed.
    """
    if gguf_file is not None:
        require_extra("gguf", "gguf", "accelerate")
    check_source(name, gguf_file)
    extra = {} if gguf_file is None else {"gguf_file": gguf_file}
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=False, **extra)
    except Exception as error:  # whatever a broken configuration makes of transformers
        raise OSError(_no_config(name, error)) from error
    if gguf_file is None and Path(name).is_dir():
        check_depth(config, Path(name))
    return config


def _no_config(name: str, error: Exception) -> str:
    reason = reason_of(error)
    if Path(name).is_dir():
        return f"config.json of {name} cannot be used ({reason}): mend it, or download the model again"
    if "trust_remote_code" in str(error):
        return f"{name} {NEEDS_CODE}"
    return f"there is no folder {name}, and no model of that name can be had from the hub: {reason}"


def check_folder(folder: Path) -> None:
    """Raise an OSError where a folder holds no model."""
    if not folder.exists():
        raise OSError(f"there is no folder {folder}: give the output of las-sj convert")
    check_source(str(folder))


def load_converted(folder: Path, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load a converted model with the class that it was saved with, and its tokenizer if it has one.

    Args:
        folder: what `convert` or `save_pretrained` wrote.
        device: for the weights.

    Raises:
        OSError, ValueError: the folder does not exist or holds no converted model, or a weight is broken.
    """
    check_folder(folder)
    config = read_config(str(folder))
    quantisation = getattr(config, "quantization_config", None) or {}
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method
    if method != METHOD:
        raise UnsupportedModelError(
            f"the model in {folder} is not converted: give the output of las-sj convert {folder}"
        )
    tokenizer = load_tokenizer(folder) if has_tokenizer(folder) else None
    model = load_weights(_class_of(config, folder), folder)
    check_finite(model, folder)
    return model.to(device).eval(), tokenizer


def load_original(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """The ANN that a converted model was made from, whose weights its folder holds.

    Args:
        folder: of a converted model.
        device: for the weights.

    Raises:
        OSError: the weights cannot be read, or are not all there.
    """
    check_folder(folder)
    config = read_config(str(folder))
    config.quantization_config = None
    del config.quantization_config
    config._attn_implementation = None
    return load_weights(_class_of(config, folder), folder, of_converted=True, config=config).to(device).eval()


def _class_of(config: PretrainedConfig, name: str | Path) -> Any:
    """The class that config.json names; that without a head where it names none.

    Raises:
        OSError: it is no class of transformers for models of this type.
    """
    named = config.architectures
    architecture = ((named if isinstance(named, list) else [named]) or [None])[0]
    if architecture is None:
        return AutoModel
    known = getattr(transformers, str(architecture), None)
    kind = getattr(known, "config_class", None)
    if isinstance(known, type) and issubclass(known, PreTrainedModel) and kind and isinstance(config, kind):
        return known
    raise OSError(
        f"config.json of {name} names {architecture!r} in architectures, which is no class of transformers for models "
        f"of type {config.model_type!r}: name the class that was saved"
    )


def _without_quantisation(model: PreTrainedModel) -> PreTrainedModel:
    """A model read from GGUF holds plain weights but refuses to be saved: move them to a fresh one."""
    entries = model.config.to_dict()
    entries.pop("quantization_config", None)
    with torch.device("meta"):
        fresh = type(model)(type(model.config).from_dict(entries))
    fresh.load_state_dict(model.state_dict(), assign=True)
    for name, buffer in model.named_buffers():
        if name not in fresh.state_dict():
            owner, _, attribute = name.rpartition(".")
            fresh.get_submodule(owner).register_buffer(attribute, buffer, persistent=False)
    fresh.tie_weights()
    fresh.generation_config = model.generation_config
    return fresh
