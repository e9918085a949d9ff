"""Adapters of PEFT around layers: which of the modules in a model are theirs, and which are the model's own."""

from collections.abc import Iterator

from torch import nn

from las_sj.neurons import watching

_OWN = ("base_layer", "original_module")  # how tuners, and what trains a module as a whole, name the layer they hold
_COPIES = "modules_to_save"


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is put around a layer: by PEFT, or as PEFT does it."""
    children = watching.children_of(module)
    return any(children.get(name) is not None for name in _OWN)


def adapted(module: nn.Module) -> nn.Module:
    """The layer inside of adapters; the module itself without any."""
    children = watching.children_of(module)
    inside = next((child for child in map(children.get, _OWN) if child is not None), None)
    return module if inside is None else adapted(inside)


def without_adapters(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """The modules of a model without adapters and what is theirs, outer modules first.

    Yields:
        The name of a module, the name that it would have without adapters, and the module.
    """
    yield from _own_modules("", "", model, set())


def _own_modules(name: str, plain: str, module: nn.Module, known: set[int]) -> Iterator[tuple[str, str, nn.Module]]:
    if id(module) in known:  # a module that has several names
        return
    known.add(id(module))
    if is_adapter(module):
        for part in _own_parts(module):
            yield from _own_modules(f"{name}.{part}", plain, module.get_submodule(part), known)
        return
    yield name, plain, module
    dot = "." if name else ""
    for child_name, child in watching.children_of(module).items():
        if child is not None:
            yield from _own_modules(f"{name}{dot}{child_name}", f"{plain}{dot}{child_name}", child, known)


def _own_parts(adapter: nn.Module) -> Iterator[str]:
    """Names, within an adapter, of the layer that it holds and of the copies of it that are trained in its place."""
    for name, child in adapter.named_children():
        if name in _OWN:
            yield name
        elif name == _COPIES:
            yield from (f"{name}.{adapter_name}" for adapter_name, _ in child.named_children())
