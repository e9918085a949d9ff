"""Conversion of a model in memory."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.quantization_config import QuantizationMethod

from las_sj.checkpoint.placement import input_device, neuron_device
from las_sj.checkpoint.quantizer import mark, quantization_config_of
from las_sj.checkpoint.weights import broken_weight
from las_sj.config import LASConfig
from las_sj.conversion.all_or_nothing import all_or_nothing
from las_sj.conversion.calibration import CalibrationError, calibrate
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.own_config import own_config
from las_sj.conversion.structure import Outputs, StructureError, check_structure, probe_of, record_outputs
from las_sj.data.batches import Batch, to_device
from las_sj.models import UnsupportedModelError, named_sites, set_execution, swap_modules
from las_sj.models.execution import is_converted
from las_sj.models.heads import classifies_sequences
from las_sj.models.registry import family_of

_OF_QUANTISERS = ("hf_quantizer", "is_quantized", "quantization_method")  # by which transformers knows how to save


def convert(
    model: PreTrainedModel, config: LASConfig | None = None, calibration: Iterable[Batch] | None = None
) -> PreTrainedModel:
    """Turn a pre-trained model into a spiking network, in place.

    The modules of the model are swapped for spiking ones, and every site's thresholds are calibrated. A probe checks
    that, with coding bypassed, the network equals the ANN in both executions. The model is left in the
    temporal execution. What became spiking is kept in `model.las_coverage`.

    Args:
        model: a Hugging Face model of a known family.
        config: the settings; the defaults if None.
        calibration: dicts of the model's keyword arguments (what a tokenizer returns). None: text that the model
            generates itself, or random tokens; ranges are then less certain.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: the family or one of its options is not known, or nothing can be converted.
        CalibrationError: the calibration data is empty, or activations or weights are not finite.
        StructureError: the network is not equivalent to the ANN.

    The model is as it was after any of them, and after an interruption.
    """
    config = (config or LASConfig()).settled(model.dtype)
    if is_converted(model):
        raise UnsupportedModelError("the model is converted already: load the original to convert it again")
    family_of(model)  # raises before anything runs
    _check_padding_token(model)
    _check_quantiser(model)
    check_weights(model)
    with all_or_nothing(model):
        _convert(model, config, iter(generated_batches(model, config.seed) if calibration is None else calibration))
    return model


def _convert(model: PreTrainedModel, config: LASConfig, batches: Iterator[Batch]) -> None:
    own_config(model)
    model.eval()
    first = _checked_batch(next(batches, None))
    probe = probe_of(to_device(first, input_device(model)))
    expected = record_outputs(model, probe)
    _check_activations(expected)
    swap_modules(model, config.factory(), config.keep_analog)
    place_neurons(model)
    try:
        check_structure(model, probe, expected)
    except (RuntimeError, IndexError, TypeError) as error:
        if isinstance(error, StructureError) or not config.keep_analog:
            raise
        raise UnsupportedModelError(
            f"the model does not run in time with {', '.join(config.keep_analog)} kept analog, probably because it "
            f"uses what lies inside: name the whole part, or single layers of it ({str(error).splitlines()[0]})"
        ) from error
    calibrate(model, config, chain([first], batches))
    for name in _OF_QUANTISERS:
        vars(model).pop(name, None)
    model.config.quantization_config = quantization_config_of(model, config)
    mark(model)
    set_execution(model, "temporal")


def _check_quantiser(model: PreTrainedModel) -> None:
    """Weights read from GGUF are plain ones; those of other quantisers are not the ANN's."""
    quantiser = getattr(model, "hf_quantizer", None)
    method = None if quantiser is None else quantiser.quantization_config.quant_method
    if method not in (None, QuantizationMethod.GGUF):
        raise UnsupportedModelError(f"the model is quantised already ({method}): convert the original model")


def _check_padding_token(model: PreTrainedModel) -> None:
    """A decoder that classifies looks for the last token that is no padding; a temporal call is a batch of T."""
    classifies = hasattr(model, "score") and classifies_sequences(model)
    if classifies and model.config.get_text_config().pad_token_id is None:
        raise UnsupportedModelError(f"{type(model).__name__} needs a padding token: set model.config.pad_token_id")


def place_neurons(model: PreTrainedModel) -> None:
    """Thresholds and tables go where the layers around them compute."""
    for name, site in named_sites(model):
        site.node.to(neuron_device(model, name.rpartition(".")[0]))


def _checked_batch(batch: Batch | None) -> Batch:
    if batch is not None and not isinstance(batch, Mapping):
        raise CalibrationError(f"batches must be dicts of the model's keyword arguments, got {type(batch).__name__}")
    if batch is None or any(isinstance(value, Tensor) and value.numel() == 0 for value in batch.values()):
        raise CalibrationError("the calibration data is empty: give at least one batch with a token")
    return batch


def _check_activations(outputs: Outputs) -> None:
    for name, tensors in outputs.items():
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise CalibrationError(f"the ANN's own activations are infinite or NaN at {name}: check the weights")


def check_weights(model: PreTrainedModel) -> None:
    """Raise a CalibrationError where a weight is infinite or NaN."""
    name = broken_weight(model)
    if name is not None:
        raise CalibrationError(f"weight {name} has infinite or NaN values: load or save the model again")
