"""A model that is converted by operations: its modules know which operations are theirs."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from las_sj.models.attachment import attach, watch_ranges
from las_sj.models.coverage import Coverage
from las_sj.models.execution import Execution, execution_of
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.site import Site
from las_sj.models.layers.spiking_layer import KnowsCalls, join
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.operated import Operated
from las_sj.models.operations.attention import keep_order_of_tokens, use_native_attention
from las_sj.models.operations.islands import REASON, RunsOutside, keep_islands
from las_sj.models.operations.known_norms import KnownNorm, NormForm, norms_in
from las_sj.models.operations.parallel import SharedByProcesses
from las_sj.models.operations.populations import CHILD, Populations
from las_sj.models.operations.quantisers import QuantiserOfOperations
from las_sj.models.operations.scope import FULL_NAME, HasOperations, node_of, populations_at
from las_sj.models.operations.seen_values import SeenValues
from las_sj.models.operations.sequences import Sequence
from las_sj.models.registry import Family, UnsupportedModelError
from las_sj.models.swap import keep_coverage
from las_sj.neurons.rate_coded import QCFSQuantizer

_NO_FAMILY = Family(())


def begin(
    model: nn.Module,
    factory: NeuronFactory,
    keep_analog: Iterable[str] = (),
    norms: Mapping[str, NormForm] | None = None,
) -> Execution:
    """Have the operations of a model intercepted in its calls, which find populations until `finish` is called.

    Args:
        model: any model.
        factory: makes the neurons.
        keep_analog: patterns (as in fnmatch) of names of modules that stay as they are, with all that is in them.
        norms: modules that are norms, by name; None: those that compute one on noise.

    Raises:
        UnsupportedModelError: a pattern names no module that computes.
    """
    execution = Execution(factory.code.time_steps)
    execution.operated = Operated(factory, view=SeenValues.here)
    norms = dict(norms_in(model)) if norms is None else norms
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation != "eager":
        execution.operated.attention = "sdpa"
    use_native_attention(model)
    keep_order_of_tokens(model)
    _give_each_its_own(model)
    keep_islands(model, keep_analog, factory, execution)
    attach(model, execution, _NO_FAMILY)
    if isinstance(model, nn.Sequential):
        join(model, Sequence, execution)
    if isinstance(model, PreTrainedModel):
        join(model, SharedByProcesses, execution)
    for name, module in list(model.named_modules()):
        if isinstance(module, KnowsCalls):
            if isinstance(module, QCFSQuantizer) and not isinstance(module, AnalogIsland):
                join(module, QuantiserOfOperations, execution)
                assert isinstance(module, QuantiserOfOperations)
                module.equip(factory)
            module.__dict__[FULL_NAME] = name
            join(module, RunsOutside if isinstance(module, AnalogIsland) else HasOperations, execution)
            if name in norms and not isinstance(module, AnalogIsland):
                join(module, KnownNorm, execution)
                module.__dict__["norm_form"] = norms[name]
    return execution


def _give_each_its_own(model: nn.Module) -> None:
    """A module without weights that several modules share, such as a GELU of all layers, has neurons in each of them.

    Their thresholds are those of the layer, and a checkpoint has them once. The module itself stays as it is: a file of
    transformers may hold it for all of its models.
    """
    children = [(parent, name, module) for parent in model.modules() for name, module in parent.named_children()]
    uses = Counter(module for _, _, module in children)
    for parent, name, module in children:
        if uses[module] > 1 and not module.state_dict(keep_vars=True):
            setattr(parent, name, copy.deepcopy(module))


def finish(model: nn.Module, execution: Execution) -> Coverage:
    """End the finding of populations: an operation that is new from now on is an error.

    Raises:
        UnsupportedModelError: no population was found.
    """
    operated = execution.operated
    assert operated is not None
    operated.finds = False
    watch_ranges(model, execution)
    spiking = Counter(function for _, found in populations_of(model) for function in _functions_of(found))
    if not spiking:
        raise UnsupportedModelError(f"{type(model).__name__} has no operation that can be converted")
    spiking.update(QCFSQuantizer.__name__ for module in model.modules() if isinstance(module, QuantiserOfOperations))
    decisions = {name: tuple(found) for name, found in operated.decisions.items()}
    analog = {name: REASON for name, module in model.named_modules() if isinstance(module, AnalogIsland)}
    return keep_coverage(model, Coverage(dict(spiking), analog, decisions))


def _functions_of(populations: Populations) -> Iterator[str]:
    return (place.partition("@")[0] for place in populations.names)


def populations_of(model: nn.Module) -> Iterator[tuple[str, Populations]]:
    """The populations of operations in a model, by the names of the modules that they belong to."""
    for name, module in model.named_modules():
        if isinstance(module, Populations):
            yield name.removesuffix(CHILD).removesuffix("."), module


def named_readings(model: nn.Module) -> Iterator[tuple[str, Populations, Site]]:
    """Operations that read spikes of others: the name that their population would have, where they are, and a site."""
    for name, populations in populations_of(model):
        for site in populations.reading_sites(partial(node_of, model)):
            yield ".".join(part for part in (name, CHILD, site.name) if part), populations, site


def entry_of(model: nn.Module) -> dict[str, Any]:
    """Populations of a model, its norms, decisions, and what an audit has found, as plain values for a checkpoint."""
    execution = execution_of(model)
    coverage, operated = execution.coverage, execution.operated
    assert operated is not None
    analog = coverage.analog_operations
    norms = {name: module for name, module in model.named_modules() if isinstance(module, KnownNorm)}
    return {
        "populations": {name: populations.to_dict() for name, populations in populations_of(model)},
        "norms": {name: asdict(norm.norm_form) for name, norm in norms.items()},
        "decisions": {name: list(functions) for name, functions in coverage.decisions.items()},
        "analog": None if analog is None else {name: list(functions) for name, functions in analog.items()},
        "attention": operated.attention,
    }


def restore(model: nn.Module, factory: NeuronFactory, entry: Mapping[str, Any], islands: Iterable[str] = ()) -> None:
    """Make the populations that a checkpoint names, in a model without any.

    Args:
        model: as it was before conversion.
        factory: makes the neurons.
        entry: what `entry_of` returned.
        islands: names of modules that stay analog.
    """
    norms = {name: NormForm(**form) for name, form in entry["norms"].items()}
    execution = begin(model, factory, islands, norms)
    assert execution.operated is not None
    for name, values in entry["populations"].items():
        model.get_submodule(name).add_module(CHILD, Populations.from_dict(values, execution, factory))
    for name, functions in entry["decisions"].items():
        for function in functions:
            execution.operated.note_decision(name, function)
    for _, populations in populations_of(model):
        for reading in populations.readings.values():
            populations_at(model, reading.source).note_reader(reading.source.population)
    coverage, analog = finish(model, execution), entry["analog"]
    if analog is not None:
        named = {name: tuple(functions) for name, functions in analog.items()}
        keep_coverage(model, replace(coverage, analog_operations=named))
