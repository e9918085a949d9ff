"""After its layers are spiking: make all modules of a model know its calls."""

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from las_sj.models.adapters import is_adapter, without_adapters
from las_sj.models.calls import OpensCalls
from las_sj.models.checkpointing import FindsItsCall
from las_sj.models.execution import EXECUTION, Execution
from las_sj.models.foreign import ForeignModule
from las_sj.models.hidden_option import keep_config_in_calls
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.spiking_layer import KnowsCalls, SpikingLayer, join
from las_sj.models.reclassed import reclass
from las_sj.models.registry import Family
from las_sj.neurons import WindowNode


def attach(model: nn.Module, execution: Execution, family: Family) -> None:
    """Make `model` and the models inside it run in `execution`, and all modules know their calls, islands excepted."""
    setattr(model, EXECUTION, execution)
    layers = watch_ranges(model, execution)
    for mixin in {layer.config_mixin for layer in layers.values()}:
        if mixin is not None:
            reclass(model.config, mixin)
    keep_config_in_calls(model)
    analog = {id(part) for island in model.modules() if isinstance(island, AnalogIsland) for part in island.modules()}
    for name, _, module in list(without_adapters(model)):
        if id(module) not in analog:
            _join(name, module, execution, family)
    for module in list(model.modules()):
        if is_adapter(module) and id(module) not in analog:
            join(module, ForeignModule, execution)


def watch_ranges(model: nn.Module, execution: Execution) -> dict[str, SpikingLayer]:
    """Have `execution` know the spiking layers of its model, and warn where their neurons are out of range."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SpikingLayer)}
    execution.layers = tuple(layers)
    execution.ranges.watch(
        (f"{name}.{site.name}", site.node)
        for name, layer in layers.items()
        for site in layer.sites()
        if site.upper_bound is None  # what exceeds a known bound is an error of the code, whatever calibration saw
    )
    return layers


def _join(name: str, module: nn.Module, execution: Execution, family: Family) -> None:
    """Give a module the mixins that it needs to know its calls."""
    if isinstance(module, PreTrainedModel) or not name:
        join(module, OpensCalls, execution)
        module.__dict__["full_name"] = name
        if name:
            module.__dict__[EXECUTION] = execution
    elif not isinstance(module, KnowsCalls | WindowNode | Execution):
        join(module, KnowsCalls, execution)
    kind = type(module).__name__
    if kind in family.batch_state:
        join(module, family.batch_state[kind], execution)
    if isinstance(module, GradientCheckpointingLayer):
        join(module, FindsItsCall, execution)
