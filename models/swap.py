"""Turn the modules of a Hugging Face model into spiking layers, in place, without touching its modelling code."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch

from torch import nn
from transformers import PreTrainedModel

from las_sj.models.activated import activated_layers, gate_activations
from las_sj.models.adapters import adapted, is_adapter, without_adapters
from las_sj.models.attachment import attach
from las_sj.models.coverage import Coverage
from las_sj.models.execution import Execution, execution_of
from las_sj.models.layers import attention
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import SpikingAttention
from las_sj.models.layers.coded_activation import CodedActivation
from las_sj.models.layers.constants import ConstantCurrents
from las_sj.models.layers.embedding import SpikingEmbedding
from las_sj.models.layers.gated_mlp import GatedProduct, SpikingGatedMLP
from las_sj.models.layers.linear import FedLinear, FedReadout, SpikingLinear, SpikingReadout, synapses_of
from las_sj.models.layers.quantised import SpikingQuantiser
from las_sj.models.layers.site import Site
from las_sj.models.layers.spiking_forms import spiking_form
from las_sj.models.layers.spiking_layer import SpikingLayer, become
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.passive import is_passive, makes_constants, moves_data
from las_sj.models.registry import Family, UnsupportedModelError, family_of
from las_sj.neurons import watching

_FED: dict[type[SpikingLayer], type[FedLinear]] = {SpikingLinear: FedLinear, SpikingReadout: FedReadout}


def swap_modules(
    model: PreTrainedModel,
    factory: NeuronFactory,
    keep_analog: Iterable[str] = (),
    all_must_match: bool = True,
    fed: Mapping[str, str] | None = None,
) -> Coverage:
    """Make every module of `model` that computes a spiking layer.

    Args:
        model: a model of a known family.
        factory: makes the neurons.
        keep_analog: patterns (as in fnmatch) of names of modules that stay as they are, with all that is in them.
        all_must_match: whether a pattern that names no module is an error.
        fed: names of linear layers that take nothing but the output of a quantised activation, by the activation's
            name: they take its spikes as they are, where neither stays analog.

    Raises:
        UnsupportedModelError: an unknown family, nothing to convert, or a pattern that cannot be followed.
    """
    family = family_of(model)
    layers = dict(_choose_layers(model, family))
    layers = _with_islands(model, layers, tuple(keep_analog), all_must_match)
    fed = {name: layer for name, layer in (fed or {}).items() if _can_feed(layers, name, layer)}
    if factory.fewer_stages:
        activated = activated_layers(model, family, layers)
        layers |= dict.fromkeys((*activated, *gate_activations(layers)), CodedActivation)
        fed |= activated
    layers |= {layer: _FED[layers[layer]] for layer in fed.values()}
    _refuse_unknown(model, layers)
    if all(layer in (SpikingEmbedding, ConstantCurrents, AnalogIsland) for layer in layers.values()):
        raise UnsupportedModelError(f"{type(model).__name__} has no layer that can be converted")
    execution = Execution(factory.code.time_steps)
    spiking = _become_all(model, layers, family, factory, execution)
    for name, layer in fed.items():
        activation = model.get_submodule(name)
        assert isinstance(activation, SpikingQuantiser | CodedActivation)
        activation.feed(layer, synapses_of(model.get_submodule(layer), ""))
    model.set_attn_implementation(attention.NAME)
    attach(model, execution, family)
    return keep_coverage(model, Coverage(spiking, dict(stayed_analog(model))))


def _can_feed(layers: Mapping[str, type[SpikingLayer]], name: str, layer: str) -> bool:
    """Whether an activation emits spikes, and a layer would code them anew otherwise."""
    return layers.get(name) is SpikingQuantiser and layers.get(layer) in _FED


def keep_coverage(model: nn.Module, coverage: Coverage) -> Coverage:
    """Keep what became of the modules: with the model's execution, and as `model.las_coverage` for its users."""
    execution_of(model).coverage = model.__dict__["las_coverage"] = coverage
    return coverage


def _become_all(
    model: PreTrainedModel,
    layers: dict[str, type[SpikingLayer]],
    family: Family,
    factory: NeuronFactory,
    execution: Execution,
) -> dict[str, int]:
    """Make modules spiking layers, as chosen; how many of each original type."""
    spiking: dict[str, int] = {}
    for name, layer in layers.items():
        module = model.get_submodule(name)
        kind = type(module).__name__
        if watching.has_own_forward(module):
            raise UnsupportedModelError(
                f"the forward method of {name} was replaced, so that it would not spike: convert the model first"
            )
        if layer is AnalogIsland:
            _mark_analog(module)
        else:
            spiking[kind] = spiking.get(kind, 0) + 1
        if issubclass(layer, SpikingAttention):
            module.__dict__["projections"] = family.attention.get(kind, ())
        if issubclass(layer, GatedProduct):
            module.__dict__["codes_gate"] = layers.get(f"{name}.{layer.activation}") is not CodedActivation
        if issubclass(layer, ConstantCurrents):
            module.__dict__["constants"] = family.constants[kind]
        become(module, layer, factory, execution, model.config)
    return spiking


def _mark_analog(island: nn.Module) -> None:
    """Attention inside of an island is the ANN's."""
    for module in island.modules():
        module.__dict__[attention.ANALOG] = True


def _with_islands(
    model: nn.Module, layers: dict[str, type[SpikingLayer]], keep_analog: tuple[str, ...], all_must_match: bool
) -> dict[str, type[SpikingLayer]]:
    """The layers with an island for every module that a pattern names, and nothing chosen inside of one."""
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
    if is_passive(module) or layers.get(name) is SpikingEmbedding:
        return False
    return bool(any(other == name or other.startswith(f"{name}.") for other in layers)) or _is_leaf(module)


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _choose_layers(model: PreTrainedModel, family: Family) -> Iterator[tuple[str, type[SpikingLayer]]]:
    """The spiking layer that each module becomes; outer modules first."""
    fed: set[str] = set()
    for name, plain, module in without_adapters(model):
        layer = _layer_of(model, family, plain, module)
        if layer is None:
            continue
        if issubclass(layer, SpikingAttention):
            fed |= {f"{plain}.{projection}" for projection in family.attention.get(type(module).__name__, ())}
        if issubclass(layer, SpikingGatedMLP):
            fed |= {f"{plain}.gate_proj", f"{plain}.up_proj"}
        yield name, FedLinear if layer is SpikingLinear and plain in fed else layer


def _layer_of(model: PreTrainedModel, family: Family, name: str, module: nn.Module) -> type[SpikingLayer] | None:
    """What the family says of a module, or else its type."""
    kind = type(module).__name__
    special = next((layer for pattern, layer in family.named_layers.items() if fnmatch(name, pattern)), None)
    if special is not None:
        return special
    if kind in family.layers:
        return family.layers[kind]
    if kind in family.constants:
        return ConstantCurrents
    if kind in family.attention:
        return SpikingAttention
    layer = spiking_form(module)
    if layer is SpikingLinear and _is_readout(model, family, name, module):
        return SpikingReadout
    return layer


def _is_readout(model: PreTrainedModel, family: Family, name: str, module: nn.Module) -> bool:
    head = model.get_output_embeddings()
    is_head = head is not None and module is adapted(head)
    return is_head or any(fnmatch(name, pattern) for pattern in family.readouts)


def knows_all_layers(model: PreTrainedModel) -> bool:
    """Whether each module of a model of a known family that computes has a spiking layer, without any kept analog."""
    layers = dict(_choose_layers(model, family_of(model)))
    return all(name in layers for name in _unknown_leaves(model))


def _refuse_unknown(model: nn.Module, layers: dict[str, type[SpikingLayer]]) -> None:
    """Raise where a module would stay that may compute something non-linear."""
    islands = tuple(f"{name}." for name, layer in layers.items() if layer is AnalogIsland)
    for name in _unknown_leaves(model):
        if name not in layers and not name.startswith(islands):
            kind = type(model.get_submodule(name)).__name__
            raise UnsupportedModelError(f"no spiking form of {kind} ({name}) is known: keep it analog (keep_analog)")


def _unknown_leaves(model: nn.Module) -> Iterator[str]:
    """Names of modules without children that no spiking layer is known for, and that do not just move data."""
    for name, _, module in without_adapters(model):
        if name and _is_leaf(module) and not is_passive(module) and spiking_form(module) is None:
            yield name


def stayed_analog(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Modules with parameters of their own, or without children, that are not spiking."""
    layers = [module for module in model.modules() if isinstance(module, SpikingLayer)]
    islands: list[str] = []
    used = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    for name, module in model.named_modules():
        if is_adapter(module):
            yield name, "an adapter, which runs on sums over time"
    for name, _, module in without_adapters(model):
        if isinstance(module, AnalogIsland):
            islands.append(f"{name}.")
            yield name, "kept analog by request"
        if name.startswith(tuple(islands)):
            continue
        if isinstance(module, SpikingLayer | Execution) or moves_data(module) or _inside_layer(model, name):
            continue
        if any(id(parameter) not in used for parameter in module.parameters(recurse=False)):
            yield name, "parameters of its own that no spiking layer uses"
        elif _is_leaf(module) and not makes_constants(module):
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
