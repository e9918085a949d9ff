"""Which activations of a model become rate codes, and where their outputs go."""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from las_sj.models.layers.activation import is_activation
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.site import Synapses
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.registry import UnsupportedModelError
from las_sj.neurons.rate_coded import QCFSQuantizer

QUANTISED = (RateCodedActivation, QCFSQuantizer)


def activations_of(model: nn.Module, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Names of the activation modules that become rate codes, in the order of the model.

    Those are all modules of an element-wise function: `h[i].mlp.act` of GPT-2, `intermediate_act_fn` and the pooler's
    and head's activations of encoders, `activation_fn` of OPT, `act_fn` of gated families.

    Args:
        model: any model, or one that is quantised already.
        patterns: of names (as in fnmatch); a module that none fits stays as it is.

    Raises:
        UnsupportedModelError: there is none, or a pattern fits none.
    """
    found = [name for name, module in model.named_modules() if isinstance(module, QUANTISED) or is_activation(module)]
    if not found:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no activation module that could become a rate code: its modelling code calls "
            "functions instead"
        )
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in found):
            raise UnsupportedModelError(f"sites: {pattern!r} names no activation of the model (there: {_some(found)})")
    return [name for name in found if any(fnmatch(name, pattern) for pattern in patterns)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@torch.no_grad()
def consumers_of(model: nn.Module, sites: Sequence[str], probe: dict[str, Any]) -> dict[str, tuple[str, Synapses]]:
    """The linear layer that the output of each site goes to, as it is, in a call of `model` on `probe`.

    A site whose output goes elsewhere, such as into a product with a gate, is left out, and so are layers that take
    other inputs too.

    Args:
        model: any model.
        sites: names of activation modules.
        probe: keyword arguments of a call.

    Returns:
        By site: the name of the layer, and what spikes find there.
    """
    emitted: dict[int, tuple[str, Tensor]] = {}  # by where values lie; the tensors are kept, so that it stays theirs
    found: dict[str, tuple[str, Synapses]] = {}
    others: set[str] = set()  # layers that something else goes to

    def after(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            emitted[output.data_ptr()] = (name, output)

        return note

    def before(layer: str) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            given: Any = args[0] if args else None
            known = emitted.get(given.data_ptr()) if isinstance(given, Tensor) else None
            if known is not None and known[1].shape == given.shape:
                found.setdefault(known[0], (layer, synapses_of(module, "")))
            else:
                others.add(layer)

        return look

    handles = [model.get_submodule(name).register_forward_hook(after(name)) for name in sites]
    handles += [module.register_forward_pre_hook(before(name)) for name, module in _linears(model)]
    try:
        model(**probe)
    finally:
        for handle in handles:
            handle.remove()
    return {name: consumer for name, consumer in found.items() if consumer[0] not in others}


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))
