"""The models of an evaluation: a model and what it is converted to, or a converted model and its original."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from las_sj.calibration import Batch, generated_batches
from las_sj.config import LASConfig
from las_sj.convert_model import check_weights, convert, set_execution
from las_sj.loading import load_converted, load_model, load_original
from las_sj.quantizer import METHOD
from las_sj.tasks.paired import Pair


@dataclass(frozen=True)
class Source:
    """What is evaluated.

    Attributes:
        name: hub name or folder, of a model or of a converted one.
        config: of the conversion; a converted model has its own.
        gguf_file: within it, for GGUF checkpoints.
        execution: "accumulated" or "temporal".
        dtype, device: of the weights.
    """

    name: str
    config: LASConfig
    gguf_file: str | None = None
    execution: str = "accumulated"
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def is_converted(self) -> bool:
        """Whether `name` is the folder of a converted model."""
        if not (Path(self.name) / "config.json").exists():
            return False
        found = getattr(AutoConfig.from_pretrained(self.name), "quantization_config", None) or {}
        return (found.get("quant_method") if isinstance(found, dict) else found.quant_method) == METHOD


def load_pair(source: Source, calibration: Callable[[PreTrainedModel, Any], list[Batch] | None]) -> Pair:
    """Both models.

    Args:
        source: what to load.
        calibration: makes batches for the model with its tokenizer or processor; None: text that the model generates.
            Not called for a converted model.

    Raises:
        OSError, ValueError: it cannot be loaded or converted.
    """
    if source.is_converted:
        folder = Path(source.name)
        snn, tokenizer = load_converted(folder, source.device)
        ann = load_original(folder, source.device)
    else:
        ann, tokenizer = load_with_images(source) if takes_images(source) else _load(source)
        check_weights(ann)
        batches = calibration(ann, tokenizer)
        snn = convert(copy.deepcopy(ann), source.config, batches or generated_batches(ann, source.config.seed))
    set_execution(snn, source.execution)
    return Pair(ann, snn, tokenizer)


def _load(source: Source) -> tuple[PreTrainedModel, Any]:
    return load_model(source.name, source.gguf_file, getattr(torch, source.dtype), source.device)


def takes_images(source: Source) -> bool:
    """Whether the model answers questions about images."""
    if source.gguf_file is not None:
        return False
    return type(AutoConfig.from_pretrained(source.name)) in AutoModelForImageTextToText._model_mapping


def load_with_images(source: Source) -> tuple[PreTrainedModel, Any]:
    """A vision-language model and its processor."""
    model: Any = AutoModelForImageTextToText.from_pretrained(source.name, dtype=getattr(torch, source.dtype))
    processor = AutoProcessor.from_pretrained(source.name)
    processor.tokenizer.padding_side = "left"  # answers follow the questions
    return model.to(source.device).eval(), processor
