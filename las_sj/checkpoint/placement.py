"""Where the parts of a model are: on one device, on several, or offloaded to the CPU or to disk by accelerate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.data.owned_folder import owned_folder
from las_sj.neurons import WindowNode
from las_sj.neurons.fetching import fetched
from las_sj.neurons.watching import offload_hook
from las_sj.usage import UsageError

DEVICE_MAPS = ("auto", "balanced", "sequential", "disk")
NOT_NUMBERED = ("cpu", "mps", "disk")  # what may be limited beside GPUs


@contextmanager
def places_of(device_map: str | None, max_memory: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Arguments of `from_pretrained` for a model that does not fit one device; empty without `device_map`.

    Args:
        device_map: one of `DEVICE_MAPS`, or None; "disk" keeps all weights on disk.
        max_memory: "DEVICE=SIZE", such as "0=20GiB" (a GPU) or "cpu=8GiB".

    Raises:
        ValueError: accelerate is not installed.
        UsageError: `max_memory` is not understood or not for this map.
    """
    if max_memory and device_map in (None, "disk"):
        raise UsageError("--max-memory needs a --device-map that it can limit: auto, balanced or sequential")
    if device_map is None:
        yield {}
        return
    if find_spec("accelerate") is None:
        raise ValueError("a device map needs accelerate: pip install accelerate")
    limits: dict[int | str, str] = {}
    for entry in max_memory:
        device, equals, size = entry.partition("=")
        if not equals or not device or not size:
            raise UsageError(f"--max-memory takes DEVICE=SIZE, such as cpu=8GiB, got {entry!r}")
        limits[_limited(device)] = size
        _check_size(size)
    with owned_folder("las_sj_offload_") as folder:
        places: dict[str, Any] = {"device_map": {"": "disk"} if device_map == "disk" else device_map}
        yield places | {"offload_folder": str(folder)} | ({"max_memory": limits} if limits else {})


def _limited(device: str) -> int | str:
    """A device as accelerate names it: a GPU by its number."""
    if device in NOT_NUMBERED:
        return device
    if not device.isdecimal() or len(device) > 4:
        raise UsageError(f"--max-memory names GPUs by number, and {', '.join(NOT_NUMBERED)}, got {device!r:.40}")
    return int(device)


def _check_size(size: str) -> None:
    from accelerate.utils import convert_file_size_to_int

    try:
        convert_file_size_to_int(size)
    except ValueError:
        raise UsageError(f"--max-memory takes sizes such as 8GiB or 500MB, got {size!r}") from None


def input_device(model: nn.Module) -> torch.device:
    """The device for the inputs of a model; accelerate moves them on from there."""
    device = execution_device(model)
    return torch.device("cpu") if device is None or device.type == "meta" else device


def neuron_device(model: nn.Module, layer: str) -> torch.device:
    """Where the neurons of a layer must be: with its weights, or, of one without any, with those closest around it.

    Args:
        model: the model.
        layer: name of the layer in it.
    """
    device = execution_device(model.get_submodule(layer))
    while device is None and layer:
        layer = layer.rpartition(".")[0]
        device = execution_device(model.get_submodule(layer))
    return device or torch.device("cpu")


def execution_device(module: nn.Module) -> torch.device | None:
    """Where a module computes, or None if nothing in it tells: neurons, which go where layers are, do not."""
    for part in module.modules():
        if isinstance(part, WindowNode):
            continue
        device = getattr(offload_hook(part), "execution_device", None)
        if device is not None:
            return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        tensor = next(part.parameters(recurse=False), None)
        if tensor is not None and tensor.device.type != "meta":
            return tensor.device
    return None


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are fetched only while they are used."""
    return any(parameter.is_meta for parameter in model.parameters())


def weights_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters by name, one module's at a time: offloaded ones are fetched for as long as they are looked at."""
    for name, module in model.named_modules():
        with fetched([module]):
            for own, parameter in module.named_parameters(recurse=False):
                yield f"{name}.{own}" if name else own, parameter


def is_stored(module: nn.Module, name: str) -> bool:
    """Whether accelerate can fetch an offloaded tensor of a module; True where nothing was offloaded, only left out."""
    hook = offload_hook(module)
    hooks = getattr(hook, "hooks", (hook,))  # several in one
    stores = [store for store in (getattr(one, "weights_map", None) for one in hooks) if store is not None]
    # The names alone: asking the store itself would read the tensor.
    return not stores or any(
        store.prefix + name in getattr(store.dataset, "all_keys", store.dataset) for store in stores
    )
