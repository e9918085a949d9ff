"""Turn the modules of a Hugging Face model into spiking layers, in place, without touching its modelling code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from las_sj.models import calls
from las_sj.models.execution import Execution
from las_sj.models.layers import attention
from las_sj.models.layers.activation import SpikingActivation, hg_function
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import SpikingAttention
from las_sj.models.layers.constants import ConstantCurrents
from las_sj.models.layers.convolution import SpikingPatchEmbedding, divides_into_patches
from las_sj.models.layers.embedding import SpikingEmbedding
from las_sj.models.layers.gated_mlp import PARTS, SpikingGatedMLP
from las_sj.models.layers.linear import FedLinear, SpikingLinear, SpikingReadout
from las_sj.models.layers.norm import SpikingLayerNorm, SpikingRMSNorm
from las_sj.models.layers.spiking_layer import NeuronFactory, Site, SpikingLayer, become
from las_sj.models.registry import Family, UnsupportedModelError, family_of

# Modules without arithmetic of their own, or that only move data.
_PASSIVE = (nn.Dropout, nn.Identity, nn.ModuleList, nn.Sequential, nn.CrossEntropyLoss)  # the last: DistilBERT's


@dataclass(frozen=True)
class Coverage:
    """What became of the modules of a model.

    Args:
        spiking: how many modules of each original type became spiking layers.
        analog: names of the modules that compute and stayed as they were, with the reason.
    """

    spiking: dict[str, int]
    analog: dict[str, str]


def swap_modules(
    model: PreTrainedModel, factory: NeuronFactory, keep_analog: Iterable[str] = (), all_must_match: bool = True
) -> Coverage:
    """Make every module of `model` that computes a spiking layer.

    Args:
        model: a model of a known family.
        factory: makes the neurons.
        keep_analog: patterns (as in fnmatch) of names of modules that stay as they are, with all that is in them.
        all_must_match: whether a pattern that names no module is an error.

    Raises:
        UnsupportedModelError: an unknown family, nothing to convert, or a pattern that cannot be followed.
    """
    family = family_of(model)
    layers = dict(_choose_layers(model, family))
    layers = _with_islands(model, layers, tuple(keep_analog), all_must_match)
    _refuse_unknown(model, layers)
    if all(layer in (SpikingEmbedding, ConstantCurrents, AnalogIsland) for layer in layers.values()):
        raise UnsupportedModelError(f"{type(model).__name__} has no layer that can be converted")
    execution = Execution(factory.code.time_steps)
    spiking: dict[str, int] = {}
    for name, layer in layers.items():
        module = model.get_submodule(name)
        kind = type(module).__name__
        if layer is AnalogIsland:
            _mark_analog(module)
        else:
            spiking[kind] = spiking.get(kind, 0) + 1
        if issubclass(layer, SpikingAttention):
            module.__dict__["projections"] = family.attention.get(kind, ())
        if issubclass(layer, ConstantCurrents):
            module.__dict__["constants"] = family.constants[kind]
        become(module, layer, factory, execution, model.config)
    model.set_attn_implementation(attention.NAME)
    calls.attach(model, execution, family)
    return Coverage(spiking, dict(stayed_analog(model)))


def _mark_analog(island: nn.Module) -> None:
    """Attention inside of an island is the ANN's."""
    for module in island.modules():
        module.__dict__[attention.ANALOG] = True


def _with_islands(
    model: nn.Module, layers: dict[str, type[SpikingLayer]], keep_analog: tuple[str, ...], all_must_match: bool
) -> dict[str, type[SpikingLayer]]:
    """The same choice, with an island for every module that a pattern names, and nothing chosen inside of one."""
    islands: list[str] = []
    for pattern in keep_analog:
        named = [name for name, module in model.named_modules() if name and fnmatch(name, pattern)]
        matches = [name for name in named if _can_stay(model, name, layers)]
        if not matches and all_must_match:
            raise UnsupportedModelError(f"keep_analog: {pattern!r} names no module that computes by itself")
        islands += matches
    outermost = [name for name in islands if not any(name.startswith(f"{other}.") for other in islands)]
    for name in outermost:
        _refuse_island(model, name, layers.get(name))
    inside = tuple(f"{name}." for name in outermost)
    kept = {name: layer for name, layer in layers.items() if not name.startswith(inside)}
    return kept | dict.fromkeys(outermost, AnalogIsland)


def _refuse_island(model: nn.Module, name: str, layer: type[SpikingLayer] | None) -> None:
    """Raise where a module cannot run by itself, once, outside of the spiking network."""
    if layer is FedLinear:
        raise UnsupportedModelError(f"keep_analog: {name} is part of an attention or gated block: name the block")
    if layer is not None and layer.absorbs:
        raise UnsupportedModelError(
            f"keep_analog: modelling code applies a non-linearity to the output of {name}, which would stay outside"
        )
    embedding = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    takes_images = "image" in getattr(model, "input_modalities", ())
    if (
        takes_images
        and embedding is not None
        and any(part is embedding for part in model.get_submodule(name).modules())
    ):
        raise UnsupportedModelError(
            f"keep_analog: {name} holds the input embeddings, which the model calls by themselves: name parts of it"
        )


def _can_stay(model: nn.Module, name: str, layers: dict[str, type[SpikingLayer]]) -> bool:
    """Whether a module can be an island: it computes, and its output is a current."""
    module = model.get_submodule(name)
    if isinstance(module, _PASSIVE) or layers.get(name) is SpikingEmbedding or "Rotary" in type(module).__name__:
        return False
    return bool(any(other == name or other.startswith(f"{name}.") for other in layers)) or _is_leaf(module)


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _choose_layers(model: PreTrainedModel, family: Family) -> Iterator[tuple[str, type[SpikingLayer]]]:
    """The spiking layer that each module becomes; outer modules first."""
    fed: set[str] = set()
    readout = model.get_output_embeddings()
    for name, module in model.named_modules():
        kind = type(module).__name__
        special = next((layer for pattern, layer in family.named_layers.items() if fnmatch(name, pattern)), None)
        if special is not None:
            yield name, special
        elif kind in family.layers:
            yield name, family.layers[kind]
        elif kind in family.constants:
            yield name, ConstantCurrents
        elif kind in family.attention:
            fed |= {f"{name}.{projection}" for projection in family.attention[kind]}
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
        known = isinstance(module, (nn.Linear, Conv1D, *_PASSIVE)) or "Rotary" in type(module).__name__
        if name and _is_leaf(module) and not known and _layer_by_type(module) is None:
            yield name


def _layer_by_type(module: nn.Module) -> type[SpikingLayer] | None:
    if isinstance(module, nn.Embedding):
        return SpikingEmbedding
    if divides_into_patches(module):
        return SpikingPatchEmbedding
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
