"""Conversion of a model to rate codes: quantised activations, and neurons in their place in time."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.calibration import CalibrationError, checked_batch
from las_sj.conversion.own_config import own_config
from las_sj.conversion.structure import StructureError, probe_of
from las_sj.data.batches import Batch, to_device
from las_sj.fas_config import FASConfig
from las_sj.models import UnsupportedModelError
from las_sj.models.execution import running
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import (
    bypassed,
    calibrated_nodes,
    insert,
    is_rate_coded,
    set_consumers,
    taken_back,
)
from las_sj.models.rate_coded.sites import activations_of, consumers_of
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSQuantizer
from las_sj.neurons.rate_coded.quantizer import continuous_quantisers

_KEPT = 1 << 17  # inputs of a site that are kept of each call, to find the percentile
_TOLERANCE = 1e-3  # of relative differences between lanes and the ANN


def quantise(model: PreTrainedModel, config: FASConfig, batches: Iterable[Batch]) -> None:
    """Put quantised activations in the place of a model's activations; their thresholds are percentiles of inputs.

    A model that is quantised already keeps its thresholds.

    Args:
        model: the model; `QCFSQuantizer` modules come in.
        config: names the sites, and has levels and the percentile.
        batches: what thresholds follow from.

    Raises:
        UnsupportedModelError: there is no activation module, a pattern names none, or the model has other levels.
        CalibrationError: the data is empty, or a site has no positive finite inputs.
    """
    sites = {name: model.get_submodule(name) for name in activations_of(model, config.sites)}
    for name, site in sites.items():
        if isinstance(site, QCFSQuantizer) and site.levels != config.levels:
            raise UnsupportedModelError(
                f"{name} is quantised to {site.levels} levels already, not to {config.levels}: set levels to that"
            )
    names = [name for name, site in sites.items() if not isinstance(site, QCFSQuantizer)]
    thresholds = thresholds_of(model, names, config.percentile, batches) if names else {}
    for name, theta in thresholds.items():
        quantizer = QCFSQuantizer(theta, config.levels, config.clip_first).to(theta.device)
        model.set_submodule(name, quantizer.train(model.training))


@torch.no_grad()
def thresholds_of(model: nn.Module, sites: list[str], percentile: float, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """A percentile of the positive inputs of each site, over all batches; padding takes part.

    Args:
        model: any model.
        sites: names of activation modules.
        percentile: in percent.
        batches: dicts of the model's keyword arguments.

    Raises:
        CalibrationError: there are no batches, or a site has no positive or no finite inputs.
    """
    seen = {name: _Inputs() for name in sites}
    handles = [model.get_submodule(name).register_forward_pre_hook(seen[name]) for name in sites]
    try:
        for batch in tqdm(batches, desc="looking for thresholds", unit="batch", leave=False):
            model(**to_device(batch, input_device(model)))
    finally:
        for handle in handles:
            handle.remove()
    return {name: inputs.percentile(name, percentile) for name, inputs in seen.items()}


class _Inputs:
    """Keeps a sample of the positive inputs of one site, those of each call in proportion."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._kept: list[Tensor] = []

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].detach().float().flatten()
        if not bool(x.isfinite().all()):
            raise CalibrationError("the inputs of an activation are infinite or NaN: check the weights and the data")
        if len(x) > _KEPT:
            x = x[torch.randint(len(x), (_KEPT,), generator=self._generator).to(x.device)]
        self._kept.append(x[x > 0])

    def percentile(self, name: str, percent: float) -> Tensor:
        """A percentile of them."""
        positive = torch.cat(self._kept) if self._kept else torch.empty(0)
        if not len(positive):
            raise CalibrationError(f"{name} has seen no positive input: give calibration data that it fires for")
        rank = min(len(positive), max(1, round(len(positive) * percent / 100)))
        return positive.kthvalue(rank).values


def convert_to_rates(
    model: PreTrainedModel,
    config: FASConfig,
    batches: Iterator[Batch],
    calibrated: Mapping[str, CalibratedIFNode] | None = None,
) -> None:
    """Make a model, quantised or plain, a network of rate codes.

    Args:
        model: the model, in evaluation mode.
        config: the settings.
        batches: calibration data.
        calibrated: neurons that FAS has calibrated, by the names of sites; method "fas" keeps their Θ and β.

    Raises:
        UnsupportedModelError, CalibrationError: as `quantise`.
        StructureError: lanes see each other.
    """
    first = to_device(checked_batch(next(batches, None)), input_device(model))
    quantise(model, config, chain([first], batches))
    names = activations_of(model, config.sites)
    probe = probe_of(first)
    consumers = consumers_of(model, names, probe)
    with torch.no_grad(), continuous_quantisers():  # levels are decided by less than rounding errors
        expected = _output_of(model(**probe))
    activations = {}
    for name in names:
        quantizer = model.get_submodule(name)
        assert isinstance(quantizer, QCFSQuantizer)
        node = (calibrated or {}).get(name) if config.method == "fas" else None
        activations[name] = _activation(quantizer, config, node)
    insert(model, activations, config.lanes)
    set_consumers(model, consumers)
    check_lanes(model, probe, expected)


def _activation(quantizer: QCFSQuantizer, config: FASConfig, node: CalibratedIFNode | None) -> RateCodedActivation:
    """An activation with neurons of the method, or with copies of calibrated ones."""
    if node is None:
        fresh = config.node(quantizer.theta.detach())
        return RateCodedActivation(fresh, quantizer.levels, quantizer.clip_first).to(quantizer.theta.device)
    assert isinstance(node.beta, Tensor)
    kept = CalibratedIFNode(node.theta.detach(), node.beta.detach(), step_mode=node.step_mode)
    activation = RateCodedActivation(kept, quantizer.levels, quantizer.clip_first, quantizer)
    return activation.to(quantizer.theta.device)


@torch.no_grad()
def check_lanes(model: PreTrainedModel, probe: dict[str, Any], expected: Tensor) -> None:
    """Raise a StructureError where lanes see each other, or accumulated calls are not the quantised ANN.

    Args:
        model: a network of rate codes.
        probe: keyword arguments of a call.
        expected: what the quantised ANN returns for it.
    """
    with bypassed(model), continuous_quantisers():
        for execution in ("accumulated", "temporal"):
            with running(model, execution):
                found = _output_of(model(**probe))
            if found.shape != expected.shape or not _is_close(found, expected):
                raise StructureError(
                    f"{type(model).__name__} does not run in lanes: its {execution} execution differs from the ANN "
                    "where no neuron spikes, so that its modelling code mixes the rows of a batch"
                )


def _is_close(found: Tensor, expected: Tensor) -> bool:
    scale = expected.float().norm()
    return bool((found.float() - expected.float()).norm() <= _TOLERANCE * scale + 1e-6)


def _output_of(output: Any) -> Tensor:
    """The first float tensor of an output."""
    values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else (output,)
    return next(value for value in values if isinstance(value, Tensor) and value.is_floating_point())


def back_to_quantised(model: PreTrainedModel) -> dict[str, CalibratedIFNode]:
    """Make a network of rate codes the quantised ANN that it stands for; all others are left as they are.

    Returns:
        The neurons that FAS has calibrated, by the names of sites.
    """
    calibrated = calibrated_nodes(model)
    if is_rate_coded(model):
        taken_back(model)
    own_config(model)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            vars(module.config).pop("quantization_config", None)
    return calibrated
