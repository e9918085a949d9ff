"""Make a model a network of rate codes, in place, and take it back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from las_sj.models.calls import OpensCalls
from las_sj.models.coverage import Coverage
from las_sj.models.execution import EXECUTION, Execution, execution_of, is_converted
from las_sj.models.lanes import Lanes
from las_sj.models.layers.site import Synapses
from las_sj.models.layers.spiking_layer import join
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.swap import keep_coverage
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSQuantizer


def named_activations(model: nn.Module) -> Iterator[tuple[str, RateCodedActivation]]:
    """The rate-coded activations of a model, by name."""
    for name, module in model.named_modules():
        if isinstance(module, RateCodedActivation):
            yield name, module


def calibrated_nodes(model: nn.Module) -> dict[str, CalibratedIFNode]:
    """The neurons of a network of rate codes that FAS has calibrated, by the name of their activation."""
    nodes = ((name, activation.node) for name, activation in named_activations(model) if activation.quantizer)
    return {name: node for name, node in nodes if isinstance(node, CalibratedIFNode)}


def shapes_of_calibrated(model: nn.Module) -> list[list[int]]:
    """The shapes of their thresholds Θ: [], [C] or [S, C]."""
    return [[*node.theta.shape] for node in calibrated_nodes(model).values()]


def is_rate_coded(model: nn.Module) -> bool:
    """Whether a model is a network of rate codes whose other parts are as they were."""
    return is_converted(model) and execution_of(model).lanes is not None


def insert(model: PreTrainedModel, activations: Mapping[str, RateCodedActivation], lanes: Lanes) -> None:
    """Put rate-coded activations into a model, and have its calls run in lanes.

    Args:
        model: a model.
        activations: by the names of the modules in whose place they come.
        lanes: of its temporal calls.
    """
    execution = Execution(lanes.count)
    execution.lanes = lanes
    kinds: dict[str, int] = {}
    for name, activation in activations.items():
        kind = type(model.get_submodule(name)).__name__
        kinds[kind] = kinds.get(kind, 0) + 1
        model.set_submodule(name, activation)
        activation.join(execution)
        activation.train(model.training)
    setattr(model, EXECUTION, execution)
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            _open(name, module, execution)
    keep_coverage(model, Coverage(kinds, dict(_analog(model))))


def _open(name: str, model: PreTrainedModel, execution: Execution) -> None:
    """Have calls of a model, or of one inside of it, begin and end there."""
    join(model, OpensCalls, execution)
    model.__dict__["full_name"] = name
    if name:
        model.__dict__[EXECUTION] = execution


def _analog(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Modules with parameters that see no spikes: they run once a lane."""
    fed = {id(module) for module in _fed(model)}
    for name, module in model.named_modules():
        own = next(module.parameters(recurse=False), None)
        parent = name.rpartition(".")[0]
        inside = parent and isinstance(model.get_submodule(parent), RateCodedActivation)
        if own is not None and id(module) not in fed and not inside:
            yield name, "runs on real numbers, once a time step"


def _fed(model: nn.Module) -> Iterator[nn.Module]:
    for _, activation in named_activations(model):
        if activation.fed:
            yield model.get_submodule(activation.fed)


def set_consumers(model: nn.Module, consumers: Mapping[str, tuple[str, Synapses]]) -> None:
    """Tell rate-coded activations where their spikes go.

    Args:
        model: a network of rate codes.
        consumers: names of linear layers, and what spikes find there, by the names of activations.
    """
    for name, activation in named_activations(model):
        if name in consumers:
            activation.fed, activation.consumer = consumers[name]
            activation.feeds = "weights"
    coverage = execution_of(model).coverage
    keep_coverage(model, Coverage(coverage.spiking, dict(_analog(model))))


def taken_back(model: PreTrainedModel) -> dict[str, QCFSQuantizer]:
    """Put quantisers in the place of rate-coded activations, and have calls run once: the ANN that is trained.

    Args:
        model: a network of rate codes.

    Returns:
        The quantisers, by name.
    """
    quantisers = {}
    for name, activation in list(named_activations(model)):
        quantiser = activation.quantizer or activation.quantiser_of_node()
        quantisers[name] = quantiser.train(activation.training)
        model.set_submodule(name, quantiser)
    for module in model.modules():
        _close(module)
    return quantisers


def _close(module: nn.Module) -> None:
    if not isinstance(module, OpensCalls):
        return
    module.__class__ = type(module).las_parts[1]
    for name in ("execution", "full_name", "las_coverage", EXECUTION):
        module.__dict__.pop(name, None)
    module._modules.pop(EXECUTION, None)


@contextmanager
def bypassed(model: nn.Module) -> Iterator[None]:
    """Within this context neurons do not spike: each lane has the activations of the ANN."""
    activations = [activation for _, activation in named_activations(model)]
    for activation in activations:
        activation.bypass = True
    try:
        yield
    finally:
        for activation in activations:
            activation.bypass = False
