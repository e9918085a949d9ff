"""Conversion of a model in memory."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.quantization_config import QuantizationMethod

from las_sj.checkpoint.placement import input_device, neuron_device
from las_sj.checkpoint.quantizer import mark, quantization_config_of
from las_sj.checkpoint.weights import broken_weight
from las_sj.config import LASConfig
from las_sj.conversion.all_or_nothing import all_or_nothing
from las_sj.conversion.calibration import CalibrationError, calibrate, checked_batch
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.continuation import check_continuation, continuation_of
from las_sj.conversion.in_single_precision import dtype_of
from las_sj.conversion.operations import convert_operations
from las_sj.conversion.own_config import own_config
from las_sj.conversion.rate_coded import back_to_quantised, convert_to_rates, quantise
from las_sj.conversion.structure import Outputs, StructureError, check_structure, probe_of, record_outputs
from las_sj.conversion.verdict import keep_verdict
from las_sj.data.batches import Batch, to_device
from las_sj.fas_config import FASConfig
from las_sj.models import UnsupportedModelError, execution_of, named_sites, set_execution, swap_modules
from las_sj.models.execution import is_converted
from las_sj.models.heads import classifies_sequences
from las_sj.models.operations.attention import keep_order_of_tokens
from las_sj.models.rate_coded.network import is_rate_coded, shapes_of_calibrated
from las_sj.models.rate_coded.sites import consumers_of
from las_sj.models.registry import is_of_known_family
from las_sj.models.site_codes import give_codes
from las_sj.models.swap import knows_all_layers
from las_sj.models.tensor_parallel import refuse_parts
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSQuantizer
from las_sj.neurons.rate_coded.quantizer import continuous_quantisers

Model = TypeVar("Model", bound=nn.Module)
_OF_QUANTISERS = ("hf_quantizer", "is_quantized", "quantization_method")  # by which transformers knows how to save


def convert(
    model: Model, config: LASConfig | FASConfig | None = None, calibration: Iterable[Batch] | None = None
) -> Model:
    """Turn a pre-trained model into a spiking network, in place.

    The modules of a model of a known family are swapped for spiking ones. In others, each torch function that their
    forward methods call follows its rule (`las_sj.models.operations`). Every site's thresholds are calibrated. A probe
    checks that, with coding bypassed, the network equals the ANN in both executions. The model is left in the
    temporal execution. What became spiking is kept in `model.las_coverage`.

    With a `FASConfig` only activations become spiking, as rate codes, unless it is fully spiking: FAS, QCFS, SRP and
    COS. A model that was converted so may be given again, with a `FASConfig` or a `LASConfig`: what it was trained to
    is kept. So is what FAS has calibrated, Θ and β, where method "fas" is given again, for any T.

    Args:
        model: a Hugging Face model, or any module, whose float inputs are [B, ...].
        config: the settings, those of LAS or of rate codes; LAS's defaults if None.
        calibration: dicts of the model's keyword arguments (what a tokenizer returns). None: text that the model
            generates itself, or random tokens; ranges are then less certain. Other modules need some.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: a function of the model has no spiking form, or nothing can be converted.
        CalibrationError: the calibration data is empty, or activations or weights are not finite.
        StructureError: the network is not equivalent to the ANN.

    The model is as it was after any of them, and after an interruption.
    """
    config = config or LASConfig()
    if is_converted(model) and not is_rate_coded(model):
        raise UnsupportedModelError("the model is converted already: load the original to convert it again")
    refuse_parts(model, "conversion")
    _check_padding_token(model)
    _check_quantiser(model)
    check_weights(model)
    with all_or_nothing(model):
        calibrated: dict[str, CalibratedIFNode] = {}
        if is_rate_coded(model):
            assert isinstance(model, PreTrainedModel)
            calibrated = back_to_quantised(model)
        batches = iter(_generated(model, config) if calibration is None else calibration)
        if isinstance(config, FASConfig):
            _convert_to_rates(model, config, batches, calibrated)
        else:
            _convert(model, config.settled(dtype_of(model)), batches)
    return model


def _convert_to_rates(
    model: nn.Module, config: FASConfig, batches: Iterator[Batch], calibrated: Mapping[str, CalibratedIFNode]
) -> None:
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(f"{type(model).__name__} is no model of transformers, which rate codes are for")
    own_config(model)
    model.eval()
    if config.fully_spiking:
        kept = [checked_batch(next(batches, None)), *batches]
        quantise(model, config, kept)
        _convert(model, config.las.settled(dtype_of(model)), iter(kept), config)
        return
    convert_to_rates(model, config, batches, calibrated)
    _keep_entry(model, config)
    entry: Any = model.config.quantization_config
    entry.settings = config.calibrated_as(shapes_of_calibrated(model))
    set_execution(model, "temporal")


def _keep_entry(model: PreTrainedModel, config: LASConfig | FASConfig) -> None:
    """Have the model's config say how it was converted, so that it can be saved."""
    for name in _OF_QUANTISERS:
        vars(model).pop(name, None)
    model.config.quantization_config = quantization_config_of(model, config)
    mark(model)


def _generated(model: nn.Module, config: LASConfig | FASConfig) -> Iterable[Batch]:
    if not isinstance(model, PreTrainedModel):
        raise CalibrationError(f"{type(model).__name__} needs calibration data: dicts of its keyword arguments")
    return generated_batches(model, config.seed)


def _by_family(model: nn.Module, config: LASConfig) -> bool:
    """Whether a model has a family, and layers that this has spiking forms of; what lacks one may be kept analog."""
    return is_of_known_family(model) and (bool(config.keep_analog) or knows_all_layers(model))


def _convert(model: nn.Module, config: LASConfig, batches: Iterator[Batch], entry: FASConfig | None = None) -> None:
    own_config(model)
    model.eval()
    first = to_device(checked_batch(next(batches, None)), input_device(model))
    with continuous_quantisers():
        _make_spiking(model, config, first)
    unknown = give_codes(model, config.site_codes)
    if unknown:
        raise UnsupportedModelError(f"site_codes name {unknown[0]}, which is no population that codes values")
    calibrate(model, config, chain([first], batches))
    if execution_of(model).operated is not None:
        keep_verdict(model, first)
    if isinstance(model, PreTrainedModel):
        _keep_entry(model, entry or config)
    set_execution(model, "temporal")


def _make_spiking(model: nn.Module, config: LASConfig, first: dict[str, Any]) -> None:
    """Give a model neurons that are not calibrated yet, and check that, without coding, it computes what it did."""
    by_operations = config.by_operations or not _by_family(model, config)
    if by_operations and config.fewer_stages:
        raise UnsupportedModelError(
            "fewer_stages is for models of known families, which are not converted by operations: leave it out"
        )
    if by_operations:
        keep_order_of_tokens(model)  # of the ANN too, which is compared module by module
    probe = probe_of(first)
    expected = record_outputs(model, probe)
    _check_activations(expected)
    continuation = None
    if not by_operations and isinstance(model, PreTrainedModel):
        swap_modules(model, config.factory(), config.keep_analog, fed=_fed(model, probe))
    else:
        continuation = continuation_of(model, probe)
        continues = convert_operations(
            model, config.factory(), _calls(probe, first), config.keep_analog, continues=continuation is not None
        )
        continuation = continuation if continues else None
    place_neurons(model)
    try:
        check_structure(model, probe, expected)
        if continuation is not None:
            check_continuation(model, probe, continuation)
    except (RuntimeError, IndexError, TypeError) as error:
        if isinstance(error, StructureError) or not config.keep_analog:
            raise
        raise UnsupportedModelError(
            f"the model does not run in time with {', '.join(config.keep_analog)} kept analog, probably because it "
            f"uses what lies inside: name the whole part, or single layers of it ({str(error).splitlines()[0]})"
        ) from error


def _fed(model: nn.Module, probe: dict[str, Any]) -> dict[str, str]:
    """The linear layers that take nothing but the output of a quantised activation, by the activation's name."""
    sites = [name for name, module in model.named_modules() if isinstance(module, QCFSQuantizer)]
    return {name: layer for name, (layer, _) in consumers_of(model, sites, probe).items()} if sites else {}


def _calls(probe: dict[str, Any], first: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls in which operations are found: one, where the probe is the whole batch."""
    is_whole = probe.keys() == first.keys() and all(probe[name] is first[name] for name in first)
    return [probe] if is_whole else [probe, first]


def _check_quantiser(model: nn.Module) -> None:
    """Weights read from GGUF are plain ones; those of other quantisers are not the ANN's."""
    quantiser = getattr(model, "hf_quantizer", None)
    method = None if quantiser is None else quantiser.quantization_config.quant_method
    if method not in (None, QuantizationMethod.GGUF) and not is_rate_coded(model):
        raise UnsupportedModelError(f"the model is quantised already ({method}): convert the original model")


def _check_padding_token(model: nn.Module) -> None:
    """A decoder that classifies looks for the last token that is no padding; a temporal call is a batch of T."""
    if not isinstance(model, PreTrainedModel) or not hasattr(model, "score") or not classifies_sequences(model):
        return
    if model.config.get_text_config().pad_token_id is None:
        raise UnsupportedModelError(f"{type(model).__name__} needs a padding token: set model.config.pad_token_id")


def place_neurons(model: nn.Module) -> None:
    """Thresholds and tables go where the layers around them compute."""
    for name, site in named_sites(model):
        site.node.to(neuron_device(model, name.rpartition(".")[0]))


def _check_activations(outputs: Outputs) -> None:
    for name, tensors in outputs.items():
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise CalibrationError(f"the ANN's own activations are infinite or NaN at {name}: check the weights")


def check_weights(model: nn.Module) -> None:
    """Raise a CalibrationError where a weight is infinite or NaN."""
    name = broken_weight(model)
    if name is not None:
        raise CalibrationError(f"weight {name} has infinite or NaN values: load or save the model again")
