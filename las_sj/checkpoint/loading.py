"""Load the model to convert: a hub name, a local folder, a GGUF file, or the default model of this package."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from las_sj.checkpoint.architecture import class_of
from las_sj.checkpoint.entry import METHOD, LASQuantizationConfig
from las_sj.checkpoint.source import NEEDS_CODE, check_source
from las_sj.checkpoint.tokenizer import has_tokenizer, load_tokenizer
from las_sj.checkpoint.weights import check_depth, check_finite, load_weights
from las_sj.data.modalities import ModalityError, modalities_of
from las_sj.extras import require_extra
from las_sj.fas_config import FASConfig
from las_sj.models import UnsupportedModelError
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
    """Load a model of text with the class that its checkpoint names, and its tokenizer. Never runs remote code.

    Args:
        name: a hub name or a folder.
        gguf_file: file name within it, for GGUF checkpoints.
        dtype, device: of the weights.
        places: `device_map` and what belongs to it, for models that do not fit one device (accelerate).

    Raises:
        UnsupportedModelError: the architecture cannot be converted; found before any weights are loaded.
        ModalityError: it takes other things than text.
        OSError, ValueError: nothing that can be loaded is there.
        MissingExtraError: what reads GGUF is not installed.
    """
    model_class = class_to_convert(name, gguf_file)
    takes = modalities_of(model_class)
    if not takes.only_text:
        raise ModalityError(f"{name} takes {' and '.join(takes.names)}: give a model of text")
    tokenizer = load_tokenizer(name, **_of_gguf(gguf_file))
    return load_ann(model_class, name, gguf_file, dtype, device, places), tokenizer


def load_ann(
    model_class: Any,
    name: str,
    gguf_file: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    places: dict[str, Any] | None = None,
    trust: bool = False,
) -> PreTrainedModel:
    """Load the weights of a model to convert.

    Args:
        model_class: as `class_to_convert` returns.
        name, gguf_file, dtype, device, places: as `load_model` takes them.
        trust: whether code that comes with the model may run.

    Raises:
        OSError: they cannot be read, or are not all there.
    """
    options = _of_gguf(gguf_file) | (places or {})
    model: Any = load_weights(model_class, name, trust=trust, dtype=dtype, **options)
    if gguf_file is not None:
        model = _without_quantisation(model)
    return model.eval() if places else model.to(device).eval()


def _of_gguf(gguf_file: str | None) -> dict[str, Any]:
    return {} if gguf_file is None else {"gguf_file": gguf_file}


def class_to_convert(name: str, gguf_file: str | None = None, trust: bool = False, rate_coded: bool = False) -> Any:
    """The class of a model to convert, found before any weights are loaded.

    Args:
        name: a hub name or a folder.
        gguf_file: file name within it, for GGUF checkpoints.
        trust: whether code that comes with the model may run.
        rate_coded: whether it may be a network of rate codes, whose ANN is the quantised one.

    Raises:
        UnsupportedModelError: the model cannot be converted.
        OSError, ValueError: there is none, or its configuration is broken.
        MissingExtraError: what reads GGUF is not installed.
    """
    config = read_config(name, gguf_file, trust)
    may_be = rate_coded and gguf_file is None and rate_codes_of(config) is not None
    if getattr(config, "quantization_config", None) is not None and gguf_file is None and not may_be:
        method = dict(config.quantization_config).get("quant_method")
        raise UnsupportedModelError(f"{name} is quantised already ({method}): give the original model")
    return class_of(config, name, trust) if gguf_file is None else _language_model(config, name)


def rate_codes_of(config: PretrainedConfig) -> FASConfig | None:
    """The settings of a network of rate codes whose other parts are as they were; None of every other model.

    Args:
        config: as `read_config` returns.

    Raises:
        ValueError: what config.json says of the conversion is broken.
    """
    entry = dict(getattr(config, "quantization_config", None) or {})
    settings = LASQuantizationConfig(**entry).settings if entry.get("quant_method") == METHOD else None
    return settings if isinstance(settings, FASConfig) and not settings.fully_spiking else None


def _language_model(config: PretrainedConfig, name: str) -> Any:
    """The class of the models that GGUF files hold."""
    found = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if found is None:
        raise UnsupportedModelError(f"{name} holds a {config.model_type}, which transformers has no language model of")
    return found


def read_config(name: str, gguf_file: str | None = None, trust: bool = False) -> PretrainedConfig:
    """The configuration of a model.

    Args:
        name: a hub name or a folder.
        gguf_file: file name within it, for GGUF checkpoints.
        trust: whether code that comes with the model may run.

    Raises:
        OSError, ValueError: there is none, or it asks for more layers than there are weights.
        MissingExtraError: what reads GGUF is not installed.
    """
    if gguf_file is not None:
        require_extra("gguf", "gguf", "accelerate")
    check_source(name, gguf_file, trust)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=trust, **_of_gguf(gguf_file))
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


def check_folder(folder: Path, trust: bool = False) -> None:
    """Raise an OSError where a folder holds no model, or one with code of its own, which is not trusted."""
    if not folder.exists():
        raise OSError(f"there is no folder {folder}: give the output of las-sj convert")
    check_source(str(folder), trust=trust)


def load_converted(
    folder: Path, device: str = "cpu", trust: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load a converted model with the class that it was saved with, and its tokenizer if it has one.

    Args:
        folder: what `convert` or `save_pretrained` wrote.
        device: for the weights.
        trust: whether code that comes with the model may run.

    Raises:
        OSError, ValueError: the folder does not exist or holds no converted model, or a weight is broken.
    """
    check_folder(folder, trust)
    config = read_config(str(folder), trust=trust)
    quantisation = getattr(config, "quantization_config", None) or {}
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method
    if method != METHOD:
        raise UnsupportedModelError(
            f"the model in {folder} is not converted: give the output of las-sj convert {folder}"
        )
    tokenizer = load_tokenizer(folder, trust) if has_tokenizer(folder) else None
    model = load_weights(class_of(config, folder, trust), folder, trust=trust)
    check_finite(model, folder)
    return model.to(device).eval(), tokenizer


def load_original(folder: Path, device: str = "cpu", trust: bool = False) -> PreTrainedModel:
    """The ANN that a converted model was made from, whose weights its folder holds.

    Args:
        folder: of a converted model.
        device: for the weights.
        trust: whether code that comes with the model may run.

    Raises:
        OSError: the weights cannot be read, or are not all there.
    """
    check_folder(folder, trust)
    config = read_config(str(folder), trust=trust)
    config.quantization_config = None
    del config.quantization_config
    config._attn_implementation = None
    model_class = class_of(config, folder, trust)
    return load_weights(model_class, folder, of_converted=True, trust=trust, config=config).to(device).eval()


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
