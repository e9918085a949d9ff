"""Populations and whole layers as operators of torch: what torch.compile and torch.export see in the place of kernels.

An operator takes tensors and plain values alone, so that an exported program runs wherever las_sj is imported. Calls
that nobody compiles do not come here: the way through torch's dispatcher costs more than most of their kernels.

Where the process has the very nodes that were traced (`Population.tag`), their counts of inputs out of range grow as in
any other call.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, library, nn

from las_sj.neurons import fused
from las_sj.neurons.hg import HGNode
from las_sj.neurons.mt import MTNode
from las_sj.neurons.oat import OATNode
from las_sj.neurons.population import integrated, tagged

Neuron = MTNode | OATNode | HGNode

_NODES = "Tensor[] tables, int[] sizes, str[] signatures, str[] tags, bool as_train"
_SCHEMAS = {
    "population": "(Tensor x, Tensor[] tables, str signature, bool as_train, str tag) -> Tensor",
    "population_backward": (
        "(Tensor gradient, Tensor x, Tensor y, Tensor[] tables, str signature, bool as_train) -> Tensor[]"
    ),
    "norm": f"(Tensor x, Tensor? gains, Tensor? bias, float epsilon, bool centres, {_NODES}) -> Tensor",
    "softmax": f"(Tensor x, Tensor? mask, {_NODES}) -> Tensor",
    "gated_product": f"(Tensor gate, Tensor up, {_NODES}) -> Tensor",
}
_MOST_NODES = 4096  # that are kept for their next call


# -------------------------------------------------------------------------------------------- nodes from plain values


def node_of(signature: str, tables: Sequence[Tensor]) -> Neuron:
    """A neuron with a signature (`NeuronContract.signature`) and these tables.

    Raises:
        ValueError: there is no such neuron, or no function of that name.
    """
    kind, *settings = signature.split(" ", 6 if signature.startswith("hg-within ") else 5)
    if kind in ("hg", "hg-within"):
        return _hg_node(settings, tables)
    if kind not in ("mt", "oat"):
        raise ValueError(f"no neuron has the signature {signature!r}")
    time_steps, levels, rounding, max_spikes = settings
    code = (int(time_steps), int(levels), rounding, None if max_spikes == "None" else int(max_spikes))
    node: MTNode | OATNode = MTNode(1.0, *code) if kind == "mt" else OATNode(1.0, 1.0, *code)
    names = [name for name, _ in node.named_parameters()]
    for name, table in zip(names, tables, strict=False):  # an MT neuron has its one twice
        setattr(node, name, nn.Parameter(table.detach(), requires_grad=False))
    return node


def _hg_node(settings: list[str], tables: Sequence[Tensor]) -> HGNode:
    time_steps, low, high, tolerance, *lines, function = settings
    node_of_settings = partial(
        HGNode,
        function,
        int(time_steps),
        float(low),
        float(high),
        float(tolerance),
        lines=int(lines[0]) if lines else None,
    )
    with ThreadPoolExecutor(1) as other:  # below the dispatcher this one has no autograd, which fits need
        node = other.submit(node_of_settings).result()
    for name, table in zip([name for name, _ in node.named_buffers()], tables, strict=True):
        setattr(node, name, table.detach())
    return node


class _Tables:
    """The tables of a population, as a key: by where they lie, and as what."""

    def __init__(self, tables: Sequence[Tensor]) -> None:
        self.tables = tables
        self.key = tuple((table.data_ptr(), table.dtype, table.shape, table.device) for table in tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tables) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=_MOST_NODES)
def _kept_node(signature: str, tables: _Tables, as_train: bool, tag: str) -> Neuron:
    """The node that runs for the one that was traced, and holds its tables; they share their counts."""
    node = node_of(signature, tables.tables)
    node.step_mode = "m" if as_train else "s"
    traced = tagged(tag)
    if traced is not None:
        node.counts = traced.node.counts
    return node


def _nodes(
    tables: Sequence[Tensor], sizes: Sequence[int], signatures: Sequence[str], tags: Sequence[str], as_train: bool
) -> tuple[Any, ...]:
    """The nodes of a layer."""
    nodes, start = [], 0
    for size, signature, tag in zip(sizes, signatures, tags, strict=True):
        nodes.append(_kept_node(signature, _Tables(tables[start : start + size]), as_train, tag))
        start += size
    return tuple(nodes)


# ------------------------------------------------------------------------------------------- what operators compute


@torch.no_grad()
def _population(x: Tensor, tables: list[Tensor], signature: str, as_train: bool, tag: str) -> Tensor:
    y: Tensor = _kept_node(signature, _Tables(tables), as_train, tag)(x.detach())
    return y


@torch.enable_grad()
def _population_backward(
    gradient: Tensor, x: Tensor, y: Tensor, tables: list[Tensor], signature: str, as_train: bool
) -> list[Tensor]:
    """The gradients that the node itself has: of x, and of each threshold."""
    node = node_of(signature, tables)
    v = (integrated(x.detach()) if as_train else x.detach()).to(torch.promote_types(x.dtype, torch.float32))
    parameters = [parameter.requires_grad_() for parameter in node.parameters()]
    emitted = node.with_gradient(v.requires_grad_(), lambda _: y.detach().to(v.dtype))
    of_v, *of_tables = torch.autograd.grad(emitted, [v, *parameters], gradient.to(v.dtype))
    return [of_v.to(x.dtype).expand(x.shape).clone(), *of_tables]


def _norm(x: Tensor, gains: Tensor | None, bias: Tensor | None, epsilon: float, centres: bool, *nodes: Any) -> Tensor:
    def run() -> Tensor | None:
        return fused.norm(_nodes(*nodes), x, gains, bias, epsilon, centres=centres, as_train=nodes[-1])

    return _emitted(run, x, nodes)


def _softmax(x: Tensor, mask: Tensor | None, *nodes: Any) -> Tensor:
    return _emitted(lambda: fused.softmax(_nodes(*nodes), x, mask, as_train=nodes[-1]), x, nodes)


def _gated_product(gate: Tensor, up: Tensor, *nodes: Any) -> Tensor:
    return _emitted(lambda: fused.gated_product(_nodes(*nodes), gate, up, as_train=nodes[-1]), gate, nodes)


@torch.no_grad()
def _emitted(run: Callable[[], Tensor | None], x: Tensor, nodes: tuple[Any, ...]) -> Tensor:
    """What a layer emits for currents `x`, none of which may be there.

    Raises:
        RuntimeError: there is no kernel for it.
    """
    if x.numel() == 0:
        return _layer_shape(x, *nodes)
    y = run()
    if y is None:
        raise RuntimeError(
            "the program was written down where las_sj had kernels of whole layers, and there are none for this "
            "device: install a C++ compiler and run it on a processor, or compile or export it here"
        )
    return y


# ----------------------------------------------------------------------------------------------- what torch is told


def _steps_of(signature: str) -> int:
    return int(signature.split(" ", 2)[1])


def _population_shape(x: Tensor, tables: list[Tensor], signature: str, as_train: bool, tag: str) -> Tensor:
    return x.new_empty((_steps_of(signature), *x.shape[1:]) if as_train else x.shape)


def _backward_shapes(
    gradient: Tensor, x: Tensor, y: Tensor, tables: list[Tensor], signature: str, as_train: bool
) -> list[Tensor]:
    thresholds = tables[: len(_parameter_names(signature))]
    return [x.new_empty(x.shape), *(torch.empty_like(theta) for theta in thresholds)]


def _parameter_names(signature: str) -> tuple[str, ...]:
    return {"mt": ("theta",), "oat": ("theta_normal", "theta_outlier")}.get(signature.split(" ", 1)[0], ())


def _layer_shape(x: Tensor, *others: Any) -> Tensor:
    signatures, as_train = others[-3], others[-1]
    return x.new_empty((_steps_of(signatures[-1]), *x.shape[1:]) if as_train else x.shape[1:])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, tables, ctx.signature, ctx.as_train, _ = inputs
    ctx.save_for_backward(x, output, *tables)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, y, *tables = ctx.saved_tensors
    found = torch.ops.las_sj.population_backward(gradient, x, y, tables, ctx.signature, ctx.as_train)
    of_x, *of_tables = found
    return of_x, [*of_tables, *[None] * (len(tables) - len(of_tables))], None, None, None


_OPERATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "population": (_population, _population_shape),
    "population_backward": (_population_backward, _backward_shapes),
    "norm": (_norm, _layer_shape),
    "softmax": (_softmax, _layer_shape),
    "gated_product": (_gated_product, _layer_shape),
}


def _register() -> None:
    for name, (run, shape) in _OPERATORS.items():
        qualified = f"las_sj::{name}"
        library.define(qualified, _SCHEMAS[name])
        library.impl(qualified, ("cpu", "cuda"), run)
        library.register_fake(qualified, shape)
    library.register_autograd("las_sj::population", _backward, setup_context=_keep_for_backward)


_register()
