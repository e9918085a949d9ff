"""What config.json says of the quantised activations of a model, and how they are made anew from it."""

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.fas_config import FASConfig
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.quantised import SpikingQuantiser
from las_sj.models.layers.site import Synapses
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import insert, named_activations, set_consumers
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSQuantizer, RateCodedNode

_MOST = 1 << 40  # elements of thresholds
_KEYS = {"levels": int, "clip_first": bool, "shape": list, "calibrated": list, "fed": str, "fan_out": int, "bias": bool}


def activations_of(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The entry for config.json: levels, thresholds' shapes and what is fed, by the names of quantised activations."""
    entries: dict[str, dict[str, Any]] = {}
    for name, activation in named_activations(model):
        calibrated = None if activation.quantizer is None else [*activation.node.theta.shape]
        fed = {"fed": activation.fed, "fan_out": activation.consumer.fan_out, "bias": activation.consumer.bias}
        entries[name] = _entry(activation.levels, activation.clip_first, activation.theta) | fed
        if calibrated is not None:
            entries[name]["calibrated"] = calibrated
    for name, module in model.named_modules():
        if isinstance(module, QCFSQuantizer) and not _is_inside(name, entries):
            entries[name] = _entry(module.levels, module.clip_first, module.theta)
            if isinstance(module, SpikingQuantiser) and module.fed:
                entries[name]["fed"] = module.fed
    return entries


def _entry(levels: int, clip_first: bool, theta: nn.Parameter) -> dict[str, Any]:
    return {"levels": levels, "clip_first": clip_first, "shape": [*theta.shape]}


def _is_inside(name: str, entries: dict[str, dict[str, Any]]) -> bool:
    return name.rpartition(".")[0] in entries


def check_activation(name: str, entry: Any) -> None:
    """Raise a BrokenCheckpointError where an entry is not what `activations_of` writes."""
    if not isinstance(entry, dict) or not {"levels", "clip_first", "shape"} <= entry.keys() <= _KEYS.keys():
        raise _broken(name, entry)
    if any(type(value) is not _KEYS[key] for key, value in entry.items()):
        raise _broken(name, entry)
    if not 1 <= entry["levels"] <= 127 or not 0 <= entry.get("fan_out", 1) < _MOST:
        raise _broken(name, entry)
    for key in ("shape", "calibrated"):
        shape = entry.get(key, [])
        if len(shape) > 2 or not all(type(size) is int and 1 <= size < _MOST for size in shape):
            raise _broken(name, entry)


def _broken(name: str, entry: Any) -> BrokenCheckpointError:
    return BrokenCheckpointError(
        f"the entry of {name} in activations is {str(entry)[:60]}, which no las_sj wrote: the checkpoint is broken"
    )


def put_activations(
    model: PreTrainedModel, entries: dict[str, dict[str, Any]], config: Any, prefix: str
) -> dict[str, str]:
    """Put quantised activations into an empty model, or whole rate codes where the settings are those of them.

    Args:
        model: an empty model.
        entries: of config.json.
        config: the settings of the conversion.
        prefix: of names in the model that was saved, where this is the one inside of it.

    Returns:
        The linear layers that take the spikes of quantised activations, by the activation's name, where these are to
        become spiking layers.

    Raises:
        BrokenCheckpointError: a name is not that of a module.
    """
    names = {name for name, _ in model.named_modules()}
    known = {name if name in names else name.removeprefix(prefix): entry for name, entry in entries.items()}
    lost = [name for name in known if name not in names]
    if len(lost) == len(known) and known:
        raise BrokenCheckpointError(f"the model has no module {lost[0]}, of which config.json has thresholds")
    if isinstance(config, FASConfig):
        _check_levels(entries, config)
    known = {name: entry for name, entry in known.items() if name in names}
    if not isinstance(config, FASConfig) or config.fully_spiking:
        for name, entry in known.items():
            model.set_submodule(name, _quantizer(entry))
        fed = {name: _there(entry["fed"], names, prefix) for name, entry in known.items() if entry.get("fed")}
        return {name: layer for name, layer in fed.items() if layer in names}
    rates = {name: entry for name, entry in known.items() if "fan_out" in entry}
    for name in known.keys() - rates.keys():
        model.set_submodule(name, _quantizer(known[name]))
    consumers = {
        name: (_there(entry["fed"], names, prefix), Synapses("", entry["fan_out"], True, entry.get("bias", False)))
        for name, entry in rates.items()
        if entry.get("fed")
    }
    is_whole = entries.keys() <= names
    for name, (layer, synapses) in consumers.items():
        if is_whole or layer in names:
            _check_consumer(model, name, layer, synapses, rates[name].get("calibrated", rates[name]["shape"]))
    insert(model, {name: _activation(entry, config) for name, entry in rates.items()}, config.lanes)
    set_consumers(model, {name: found for name, found in consumers.items() if found[0] in names})
    return {}


def _check_levels(entries: Mapping[str, dict[str, Any]], config: FASConfig) -> None:
    """Raise a BrokenCheckpointError where an activation has other levels than the settings say."""
    for name, entry in entries.items():
        is_site = any(fnmatch(name, pattern) for pattern in config.sites)
        if is_site and entry["levels"] != config.levels:
            raise BrokenCheckpointError(
                f"{name} has {entry['levels']} levels in config.json, whose settings say {config.levels}: the "
                "checkpoint is broken"
            )


def _check_consumer(model: nn.Module, name: str, layer: str, synapses: Synapses, shape: list[int]) -> None:
    """Raise a BrokenCheckpointError where spikes cannot go where they are said to, or find other synapses there."""
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, nn.Linear | Conv1D):
        raise BrokenCheckpointError(
            f"config.json says that {name} feeds {layer!r:.60}, which is no linear layer of the model: the checkpoint "
            "is broken"
        )
    inputs = module.nx if isinstance(module, Conv1D) else module.in_features
    found = synapses_of(module, "")
    if synapses != found or (shape and shape[-1] != inputs):
        raise BrokenCheckpointError(
            f"config.json says that {name} feeds {layer} with a fan-out of {synapses.fan_out}, but that has "
            f"{found.fan_out} outputs of {inputs} inputs {'with' if found.bias else 'without'} a bias: the checkpoint "
            "is broken"
        )


def check_fed(model: PreTrainedModel, fed: dict[str, str], digests: Mapping[str, str], prefix: str) -> None:
    """Raise a BrokenCheckpointError where a layer that should take spikes as they are codes its input, or did so.

    Args:
        model: of spiking layers.
        fed: what `put_activations` has returned.
        digests: of the neurons of the model that was saved.
        prefix: of names in that model, where `model` is the one inside of it.
    """
    for name, layer in fed.items():
        activation, coder = model.get_submodule(name), f"{layer}.input_node"
        takes_spikes = isinstance(activation, SpikingQuantiser) and activation.fed == layer
        if not takes_spikes or coder in digests or prefix + coder in digests:
            raise BrokenCheckpointError(
                f"config.json says that {layer} takes the spikes of {name}, which it did not when it was saved: the "
                "checkpoint is broken, convert the model again"
            )


def _there(name: str, names: set[str], prefix: str) -> str:
    return name if name in names else name.removeprefix(prefix)


def _quantizer(entry: dict[str, Any]) -> QCFSQuantizer:
    return QCFSQuantizer(torch.ones(entry["shape"]), entry["levels"], entry["clip_first"])


def _activation(entry: dict[str, Any], config: FASConfig) -> RateCodedActivation:
    node: RateCodedNode = config.node(torch.ones(entry["shape"]))
    quantizer = None
    if "calibrated" in entry:
        shape = torch.ones(entry["calibrated"])
        node, quantizer = CalibratedIFNode(shape, shape), _quantizer(entry)
    return RateCodedActivation(node, entry["levels"], entry["clip_first"], quantizer)
