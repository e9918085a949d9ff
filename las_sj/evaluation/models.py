"""The models of an evaluation: a model and what it is converted to, or a converted model and its original."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from las_sj.checkpoint.architecture import class_of
from las_sj.checkpoint.loading import class_to_convert, load_ann, load_converted, load_original, read_config
from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.quantizer import METHOD
from las_sj.checkpoint.weights import check_finite, load_weights
from las_sj.config import LASConfig
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.convert import convert
from las_sj.data.batches import Batch
from las_sj.data.modalities import modalities_of
from las_sj.evaluation.errors import SourceError
from las_sj.evaluation.paired import Pair
from las_sj.fas_config import FASConfig
from las_sj.models import execution_of, set_execution
from las_sj.neurons.rate_coded import QCFSQuantizer
from las_sj.reasons import reason_of

QUANTISED = "the quantised network that the rate codes stand for (its accumulated execution)"
QUANTISED_ORIGINAL = "the original, with its quantised activations"


@dataclass(frozen=True)
class Source:
    """What is evaluated.

    Attributes:
        name: hub name or folder, of a model or of a converted one.
        config: of the conversion; a converted model has its own.
        gguf_file: within it, for GGUF checkpoints.
        execution: "accumulated" or "temporal"; None is the fastest in which neurons spike.
        dtype, device: of the weights.
        trust: whether code that comes with the model may run.
    """

    name: str
    config: LASConfig | FASConfig
    gguf_file: str | None = None
    execution: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    trust: bool = False

    @property
    def settings(self) -> LASConfig | FASConfig | None:
        """Settings of a converted model; None where `name` is a model that is to be converted."""
        if self.gguf_file is not None and not Path(self.name, "config.json").exists():
            return None
        found = getattr(read_config(self.name, trust=self.trust), "quantization_config", None) or {}
        entries = found if isinstance(found, dict) else found.to_dict()
        if entries.get("quant_method") != METHOD:
            return None
        try:
            return (FASConfig if "method" in entries else LASConfig).from_dict(entries)
        except ValueError as error:
            raise SourceError(f"config.json of {self.name} is broken ({error}): convert the model again") from None

    @property
    def runs_in(self) -> str:
        """The execution of the spiking network."""
        return self.execution or (self.settings or self.config).counted_in

    @property
    def takes_images(self) -> bool:
        """Whether the model answers questions about images."""
        config = read_config(self.name, self.gguf_file, self.trust)
        return self.gguf_file is None and type(config) in AutoModelForImageTextToText._model_mapping

    @property
    def kind(self) -> str:
        """What the model takes: "questions" about images, "images", "sound" or "text"."""
        if self.takes_images:
            return "questions"
        if self.gguf_file is not None:
            return "text"
        takes = modalities_of(class_of(read_config(self.name, trust=self.trust), self.name, self.trust))
        return "text" if takes.text else "images" if takes.images else "sound"


def load_pair(source: Source, calibration: Callable[[PreTrainedModel, Any], list[Batch] | None]) -> Pair:
    """Load or convert the ANN and the SNN of an evaluation.

    Args:
        source: what to load.
        calibration: makes batches for the model with its tokenizer or processor; None: text that the model generates.
            Not called for a converted model.

    Raises:
        OSError, ValueError: it cannot be loaded or converted.
    """
    if source.settings is not None:
        ann, snn, tokenizer = _load_converted(source)
    else:
        ann, tokenizer = _load_with_images(source) if source.takes_images else _load(source)
        check_finite(ann, source.name)
        batches = calibration(ann, tokenizer)
        snn = convert(copy.deepcopy(ann), source.config, batches or generated_batches(ann, source.config.seed))
    set_execution(snn, source.runs_in)
    return Pair(ann, snn, tokenizer, "" if source.settings is None else _what_is(ann, snn))


def _what_is(ann: PreTrainedModel, snn: PreTrainedModel) -> str:
    """What the ANN of a converted model is, in words, where it is not the plain original."""
    if execution_of(snn).lanes is not None:
        return QUANTISED
    return QUANTISED_ORIGINAL if any(isinstance(module, QCFSQuantizer) for module in ann.modules()) else ""


def _load(source: Source) -> tuple[PreTrainedModel, Any]:
    """A model and its tokenizer, or its processors where it takes images or sound."""
    model_class = class_to_convert(source.name, source.gguf_file, source.trust)
    takes = modalities_of(model_class)
    if source.kind == "text" and not takes.only_text:
        raise SourceError(f"{source.name} takes {' and '.join(takes.names)}, for which there is no task")
    processors = load_processors(source.name, takes, source.trust, source.gguf_file)
    dtype = getattr(torch, source.dtype)
    model = load_ann(model_class, source.name, source.gguf_file, dtype, source.device, trust=source.trust)
    return model, processors.tokenizer if source.kind == "text" else processors


def _load_with_images(source: Source) -> tuple[PreTrainedModel, Any]:
    """A vision-language model and its processor."""
    model = load_weights(AutoModelForImageTextToText, source.name, dtype=getattr(torch, source.dtype))
    return model.to(source.device).eval(), _processor(source.name)


def _load_converted(source: Source) -> tuple[PreTrainedModel, PreTrainedModel, Any]:
    """A converted model after its original, and its tokenizer or processor.

    Weights may have been trained with quantised activations, as those of rate codes: their ANN is the quantised one.
    """
    folder = Path(source.name)
    snn, tokenizer = load_converted(folder, source.device, source.trust)
    if execution_of(snn).lanes is None:
        ann = load_original(folder, source.device, source.trust)
        _put_quantisers(ann, snn)
    else:
        ann = copy.deepcopy(snn)
        set_execution(ann, "accumulated")
    if source.kind in ("images", "sound"):
        return ann, snn, load_processors(folder, modalities_of(type(ann)), source.trust)
    if source.takes_images:
        return ann, snn, _processor(source.name)
    if tokenizer is None:
        raise SourceError(f"{folder} has no tokenizer: save that of the original model there (save_pretrained)")
    return ann, snn, tokenizer


def _put_quantisers(ann: PreTrainedModel, snn: PreTrainedModel) -> None:
    """Give an ANN the quantised activations of the network that was made from it."""
    for name, module in snn.named_modules():
        if isinstance(module, QCFSQuantizer):
            theta = module.theta.detach()
            ann.set_submodule(name, QCFSQuantizer(theta, module.levels, module.clip_first).to(theta.device))


def _processor(name: str) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
        processor.tokenizer.padding_side = "left"  # answers follow the questions
    except Exception as error:  # the readers of processors raise whatever they come upon
        raise SourceError(
            f"{name} has no processor of texts and images ({reason_of(error)}): save that of the original model there"
        ) from error
    return processor
