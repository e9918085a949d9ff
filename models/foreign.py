"""Modules that others put into a converted model, such as an adapter around a layer: they run on sums."""

import threading
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from las_sj.models.call import Call, innermost, under_way
from las_sj.models.execution import Execution
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.foreign_hooks import knows_time
from las_sj.models.layers.foreign_view import ForeignView
from las_sj.models.layers.linear import FedReadout
from las_sj.models.layers.spiking_layer import KnowsCalls, SpikingLayer, join
from las_sj.models.passive import makes_constants
from las_sj.neurons import WindowNode, watching

_NEVER_CALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_ADOPTING = threading.Lock()


class ForeignModule(KnowsCalls):
    """Mixin of a module that knows nothing of time: [T·B, ...] to [T·B, ...] in a temporal call.

    It is called once, with sums over T, and so are the layers inside of it, whose neurons spike as before. What it
    returns is emitted as a constant current, or is the membrane's sum where it holds the readout.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = innermost()
        if call is None or not call.temporal:
            return super().__call__(*args, **kwargs)
        view = ForeignView.at(call.time_steps, call.batch, args, kwargs)
        args, kwargs = view.arguments(args, kwargs)
        inside = Call(call.identity, self, False, call.time_steps, call, call.token_mask, is_entry=False)
        with under_way(inside):
            output = super().__call__(*args, **kwargs)
        return output if any(isinstance(part, FedReadout) for part in self.modules()) else view.as_currents(output)


def look_over(model: KnowsCalls, full_name: str, temporal: bool) -> None:
    """Find what was put into a model after its conversion, and have it run on sums in temporal calls.

    Args:
        model: the model that is called.
        full_name: its name within the converted model; "" for that itself.
        temporal: whether the call is.

    Raises:
        RuntimeError: a spiking layer was replaced by one that is not.
    """
    execution = model.execution
    if execution.operated is not None:
        return  # its operations are intercepted like all others: new ones are an error
    if execution.lanes is not None:
        return  # whatever stands between its neurons runs in each lane, as it is
    for name, module in _unknown_in(model, f"{full_name}." if full_name else ""):
        _refuse_replacement(execution.layers, name, module)
        if temporal and not knows_time(module):
            with _ADOPTING:
                if not isinstance(module, ForeignModule | AnalogIsland):
                    join(module, ForeignModule, execution)


def _unknown_in(parent: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that the conversion did not see, or whose forward method somebody has replaced, by name."""
    for name, child in watching.children_of(parent).items():
        if child is None or isinstance(child, WindowNode | Execution | ParametrizationList) or _makes_constants(child):
            continue
        if isinstance(child, KnowsCalls):
            if watching.has_own_forward(child) or child.class_has_changed:
                yield f"{prefix}{name}", child
            elif not isinstance(child, AnalogIsland | ForeignModule):
                yield from _unknown_in(child, f"{prefix}{name}.")
        elif isinstance(child, _NEVER_CALLED):
            yield from _unknown_in(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _makes_constants(module: nn.Module) -> bool:
    """Whether a module, or what it is put around, returns constants, which are the same at every time step."""
    if makes_constants(module):
        return True
    if isinstance(module, KnowsCalls | nn.ModuleList):
        return False
    return any(map(makes_constants, module.modules())) and next(module.parameters(), None) is None


def _refuse_replacement(layers: tuple[str, ...], name: str, module: nn.Module) -> None:
    for layer in layers:
        if layer == name or layer.startswith(f"{name}."):
            found = _part(module, layer[len(name) + 1 :])
            if found is not None and not _is_spiking(found):
                raise RuntimeError(
                    f"{layer} was replaced after conversion and is no spiking layer any more: "
                    "resize embeddings, or change layers, before the model is converted"
                )


def _part(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


def _is_spiking(layer: nn.Module) -> bool:
    """Whether a layer is spiking, or wrapped around one, as by an adapter."""
    return isinstance(layer, SpikingLayer) or any(isinstance(part, SpikingLayer) for part in layer.modules())
