"""Turn the modules of a Hugging Face model into spiking layers, in place, without touching its modelling code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from las_sj.models import attention, calls
from las_sj.models.activation import SpikingActivation, hg_function
from las_sj.models.analog import AnalogIsland
from las_sj.models.attention import SpikingAttention
from las_sj.models.embedding import SpikingEmbedding
from las_sj.models.execution import Execution
from las_sj.models.gated_mlp import PARTS, SpikingGatedMLP
from las_sj.models.linear import FedLinear, SpikingLinear, SpikingReadout
from las_sj.models.norm import SpikingLayerNorm, SpikingRMSNorm
from las_sj.models.registry import Family, UnsupportedModelError, family_of
from las_sj.models.spiking_layer import NeuronFactory, Site, SpikingLayer, become

# Modules without arithmetic of their own, or that only move data.
_PASSIVE = (nn.Dropout, nn.Identity, nn.ModuleList, nn.Sequential)


@dataclass(frozen=True)
class Coverage:
    """What became of the modules of a model.

    Args:
        spiking: how many modules of each original type became spiking layers.
        analog: names of the modules that compute and stayed as they were, with the reason.
    """

    spiking: dict[str, int]
    analog: dict[str, str]


def swap_modules(model: PreTrainedModel, factory: NeuronFactory, keep_analog: Iterable[str] = ()) -> Coverage:
    """Make every module of `model` that computes a spiking layer.

    Args:
        model: a model of a known family.
        factory: makes the neurons.
        keep_analog: patterns (as in fnmatch) of names of modules that stay as they are.

    Raises:
        UnsupportedModelError: an unknown family, nothing to convert, or a pattern that cannot be followed.
    """
    family = family_of(model)
    layers = _with_islands(model, dict(_choose_layers(model, family)), tuple(keep_analog))
    _refuse_unknown(model, layers)
    if all(layer in (SpikingEmbedding, AnalogIsland) for layer in layers.values()):
        raise UnsupportedModelError(f"{type(model).__name__} has no layer that can be converted")
    execution = Execution(factory.code.time_steps)
    attention.register()
    spiking: dict[str, int] = {}
    for name, layer in layers.items():
        module = model.get_submodule(name)
        kind = type(module).__name__
        if layer is not AnalogIsland:
            spiking[kind] = spiking.get(kind, 0) + 1
        if issubclass(layer, SpikingAttention):
            module.__dict__["projections"] = family.attention[kind]
        become(module, layer, factory, execution)
    model.set_attn_implementation(attention.NAME)
    calls.attach(model, execution)
    return Coverage(spiking, dict(stayed_analog(model)))


def _with_islands(
    model: nn.Module, layers: dict[str, type[SpikingLayer]], keep_analog: tuple[str, ...]
) -> dict[str, type[SpikingLayer]]:
    """The same choice, with an island for every module that a pattern names."""
    unknown = [name for name in _unknown_leaves(model) if name not in layers]
    layers = layers | {name: AnalogIsland for name in unknown if any(fnmatch(name, p) for p in keep_analog)}
    for pattern in keep_analog:
        if not any(fnmatch(name, pattern) for name in layers):
            raise UnsupportedModelError(f"keep_analog: {pattern!r} names no module that computes by itself")
    kept: dict[str, type[SpikingLayer]] = {}
    for name, layer in layers.items():
        if any(name.startswith(f"{other}.") for other, island in kept.items() if island is AnalogIsland):
            continue
        if not any(fnmatch(name, pattern) for pattern in keep_analog) or layer is SpikingEmbedding:
            kept[name] = layer
        elif layer in (SpikingAttention, FedLinear):
            raise UnsupportedModelError(f"keep_analog: {name} is part of an attention or gated block")
        else:
            kept[name] = AnalogIsland
    return kept


def _choose_layers(model: PreTrainedModel, family: Family) -> Iterator[tuple[str, type[SpikingLayer]]]:
    """The spiking layer that each module becomes; outer modules first."""
    fed: set[str] = set()
    readout = model.get_output_embeddings()
    for name, module in model.named_modules():
        if type(module).__name__ in family.attention:
            fed |= {f"{name}.{projection}" for projection in family.attention[type(module).__name__]}
            yield name, SpikingAttention
        elif all(hasattr(module, part) for part in PARTS):
            fed |= {f"{name}.gate_proj", f"{name}.up_proj"}
            yield name, SpikingGatedMLP
        elif isinstance(module, nn.Linear | Conv1D):
            is_readout = module is readout or any(fnmatch(name, pattern) for pattern in family.readouts)
            yield name, FedLinear if name in fed else SpikingReadout if is_readout else SpikingLinear
        elif (layer := _layer_by_type(module)) is not None:
            yield name, layer


def _refuse_unknown(model: nn.Module, layers: dict[str, type[SpikingLayer]]) -> None:
    """Raise where a module would stay that may compute something non-linear."""
    islands = tuple(f"{name}." for name, layer in layers.items() if layer is AnalogIsland)
    for name in _unknown_leaves(model):
        if name not in layers and not name.startswith(islands):
            kind = type(model.get_submodule(name)).__name__
            raise UnsupportedModelError(f"no spiking form of {kind} ({name}) is known: keep it analog (keep_analog)")


def _unknown_leaves(model: nn.Module) -> Iterator[str]:
    """Names of modules without children that no spiking layer is known for, and that do not just move data."""
    for name, module in model.named_modules():
        is_leaf = name and not any(True for _ in module.children())
        known = isinstance(module, (nn.Linear, Conv1D, *_PASSIVE)) or "Rotary" in type(module).__name__
        if is_leaf and not known and _layer_by_type(module) is None:
            yield name


def _layer_by_type(module: nn.Module) -> type[SpikingLayer] | None:
    if isinstance(module, nn.Embedding):
        return SpikingEmbedding
    if isinstance(module, nn.LayerNorm):
        return SpikingLayerNorm
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
        return SpikingRMSNorm
    return SpikingActivation if hg_function(module) is not None else None


def stayed_analog(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Modules with parameters of their own, or without children, that are not spiking."""
    layers = [module for module in model.modules() if isinstance(module, SpikingLayer)]
    islands: list[str] = []
    used = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    for name, module in model.named_modules():
        if isinstance(module, AnalogIsland):
            islands.append(f"{name}.")
            yield name, "kept analog by request"
        if name.startswith(tuple(islands)):
            continue
        if isinstance(module, (SpikingLayer, Execution, *_PASSIVE)) or _inside_layer(model, name):
            continue
        if any(id(parameter) not in used for parameter in module.parameters(recurse=False)):
            yield name, "parameters of its own that no spiking layer uses"
        elif not any(True for _ in module.children()) and "Rotary" not in type(module).__name__:
            yield name, f"no spiking form of {type(module).__name__} is known"


def _inside_layer(model: nn.Module, name: str) -> bool:
    """Whether a module is a neuron of a spiking layer."""
    parent = name.rpartition(".")[0]
    return bool(parent) and name.rpartition(".")[2] in {site.name for site in _sites_of(model.get_submodule(parent))}


def _sites_of(module: nn.Module) -> Iterator[Site]:
    return module.sites() if isinstance(module, SpikingLayer) else iter(())


def named_sites(model: nn.Module) -> Iterator[tuple[str, Site]]:
    """All populations of neurons of a converted model, by the full name of their node, in module order."""
    for name, module in model.named_modules():
        for site in _sites_of(module):
            yield f"{name}.{site.name}", site
