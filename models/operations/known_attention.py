"""Attention that modelling code writes in single operations: taken for one operation only if noise says that it is one.

A function is known if it makes two matrix products and a softmax between them, of what it was given, and nothing else:
softmax(q·kᵀ·s + mask)·v. Its operations keep their own populations. Where nobody watches one of these,
`whole_attention` runs them together. The first call of each size runs both ways, and has them agree.
"""

import dis
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from las_sj.models.layers.score_mask import as_added
from las_sj.models.operations.coded import Source
from las_sj.models.operations.populations import CHILD, Populations
from las_sj.models.operations.scope import active, full_name_of, paused
from las_sj.models.operations.whole_attention import AttentionNodes, WholeAttention
from las_sj.neurons import watching
from las_sj.neurons.precision import HALF

Attention = Callable[..., tuple[Tensor, Tensor | None]]  # as transformers calls it
_FUNCTIONS = ["matmul", "softmax", "matmul"]
_SOFTMAX = ("exp", "weight", "reciprocal", "scale", "probability")  # roles of its populations
_QUERIES, _KEYS = 3, 5  # of noise
_TOLERANCE = (2e-3, 0.1)  # of what both ways give, in half precision, which rounds scores that are written, the latter
# What plain attention may be written in besides; another function may do more where there are more keys than of noise.
_OTHERS = frozenset({
    "__get__", "size", "dim", "mul", "__mul__", "__rmul__", "add", "__add__", "__iadd__",
    "to", "float", "type_as", "contiguous", "dropout", "__getitem__", "transpose", "permute", "view",
    "reshape", "flatten", "unsqueeze", "expand", "repeat", "repeat_interleave",
})  # fmt: skip
_PLAIN = (bool, int, float, str, torch.dtype, type(None))  # of options that are the same in every call
_KNOWN: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()  # what noise says
_AGREE: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()  # what first calls say


def at_once_where_it_can_be(one_by_one: Attention, function_of: Callable[[nn.Module], Attention]) -> Attention:
    """An implementation of attention for transformers that runs all operations of attention together where it can.

    Args:
        one_by_one: runs them one by one: the implementation for all other cases.
        function_of: finds the eager function that a module's attention is.
    """

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            attention_mask = as_added(attention_mask, query.dtype)
        options = {"scaling": query.shape[-1] ** -0.5 if scaling is None else scaling, "dropout": dropout, **kwargs}
        attention = function_of(module)
        case = _case(attention, query, key, attention_mask)
        agree = _AGREE.get(module, {}).get(case)
        output = None
        if agree is not False:
            output = _at_once(attention, module, query, key, value, attention_mask, options)
        if output is not None and agree:
            return output, None
        expected = one_by_one(module, query, key, value, attention_mask, scaling, dropout, **kwargs)
        if output is not None and _note_whether_they_agree(module, case, attention_mask, output, expected[0]):
            return output, None
        return expected

    return attend


def _case(attention: Attention, query: Tensor, key: Tensor, mask: Tensor | None) -> tuple[Any, ...]:
    """What both ways are compared for once: T, types, heads, and lengths up to the next power of two."""
    scope = active()
    lengths = ((x.shape[2] - 1).bit_length() for x in (query, key))
    steps = 1 if scope is None else scope.time.time_steps
    return (attention, steps, mask is None, query.dtype, query.shape[1], key.shape[1], *lengths)


def _note_whether_they_agree(
    module: nn.Module, case: tuple[Any, ...], mask: Tensor | None, output: Tensor, expected: Tensor
) -> bool:
    """Whether attention as one operation gives what its operations gave, [T·B, S_q, H, D] both.

    Outputs that are all zeros, or not finite, tell nothing: a later call is asked again.
    """
    with watching.uninterrupted():
        found, wanted = (x.unflatten(0, (case[1], -1)).sum(0).double() for x in (output, expected))
        live = 1.0 if mask is None else _live_queries(mask, len(found))
        difference, size = (float((x * live).norm()) for x in (found - wanted, wanted))
    agree = difference <= _TOLERANCE[output.dtype in HALF] * size
    if 0 < size < math.inf:
        _AGREE.setdefault(module, {})[case] = agree
    return agree


def _live_queries(mask: Tensor, batch: int) -> Tensor:
    """Which queries have a key, [B or 1, S_q, 1, 1]; others are of padding, and nobody reads what they attend to."""
    return (mask[:batch] > torch.finfo(mask.dtype).min / 2).any(-1).any(1)[..., None, None].double()


def _at_once(
    attention: Attention,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> Tensor | None:
    """What an eager function computes, [T·B, S_q, H, D]; None where its operations must run one by one."""
    scope, populations = active(), watching.children_of(module).get(CHILD)
    if scope is None or scope.is_paused or scope.operated.finds or not isinstance(populations, Populations):
        return None
    if query.device.type != "cpu" or module.training or query.dim() != 4:
        return None
    nodes = _nodes_among(populations, full_name_of(module), inspect.unwrap(attention).__qualname__)
    if nodes is None or not _is_plain(attention, module, query, key, mask, options):
        return None
    with watching.uninterrupted():
        whole = WholeAttention(scope, populations, nodes)
        return whole.run(query, key, value, mask, options["scaling"]) if whole.fits(query, key, value, mask) else None


def _nodes_among(populations: Populations, module: str, function: str) -> AttentionNodes | None:
    """The populations of the only three operations in a function, where these read each other's spikes alone."""
    inside = [title for place, title in populations.names.items() if f"{function}:" in place]
    if sorted(title.rpartition("_")[0] for title in inside) != sorted(_FUNCTIONS):
        return None
    scores, values, softmax = sorted(inside, key=_in_order)
    reading = populations.readings.get(f"{values}_left")
    if reading is None or reading.source != Source(module, f"{softmax}_probability"):
        return None
    names = [f"{scores}_left", f"{scores}_right", f"{values}_right", *(f"{softmax}_{role}" for role in _SOFTMAX)]
    if any(name not in populations.kinds for name in names) or any(populations.readers[name] for name in names[:-1]):
        return None
    query, key, value, *others = (getattr(populations, name) for name in names)
    return AttentionNodes(query, key, value, tuple(others))


def _in_order(title: str) -> tuple[str, int]:
    """Of a function and a number: products before softmax, the first one first."""
    function, _, number = title.rpartition("_")
    return function, int(number)


def _is_plain(
    attention: Attention, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> bool:
    """Whether a function computes plain attention of noise; known from then on for the same options."""
    named = {name: value for name, value in options.items() if isinstance(value, _PLAIN)}
    if not _leaves_out(inspect.unwrap(attention), frozenset(options.keys() - named.keys())):
        return False
    sizes = (query.shape[1], key.shape[1], query.shape[3], query.dtype)
    case = (attention, sizes, mask is None, frozenset(named.items()))
    known = _KNOWN.setdefault(module, {})
    if case not in known:
        known[case] = _computes_it(attention, module, query, key, mask is not None, named)
    return known[case]


@cache
def _leaves_out(function: Any, names: frozenset[str]) -> bool:
    """Whether a function does nothing with arguments of these names: it has no such, nor looks at all others."""
    arguments = inspect.getfullargspec(function)
    if not names:
        return True
    if arguments.varkw is None or not names.isdisjoint((*arguments.args, *arguments.kwonlyargs)):
        return False
    return all(step.argval != arguments.varkw for step in dis.get_instructions(function))


@torch.no_grad()
def _computes_it(
    attention: Attention, module: nn.Module, query: Tensor, key: Tensor, masked: bool, named: dict[str, Any]
) -> bool:
    draws = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws).to(query.device, query.dtype)

    some = noise(1, query.shape[1], _QUERIES, query.shape[3])
    keys, values = (noise(1, key.shape[1], _KEYS, key.shape[3]) for _ in range(2))
    mask = noise(1, 1, _QUERIES, _KEYS) if masked else None
    recorder = _Recorder()
    try:
        with paused(), recorder:
            output = attention(module, some, keys, values, mask, **named)[0]
    except (RuntimeError, IndexError, TypeError, ValueError):
        return False  # it needs to know more than that
    with paused():
        return recorder.saw_plain(output, (some, keys, values), mask, named["scaling"])


class _Recorder(TorchFunctionMode):
    """Keeps what the products and softmaxes of a function are given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.does_more = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _FUNCTIONS:
            self.calls.append((name, args))
        self.does_more |= name not in _OTHERS and name not in _FUNCTIONS
        self.does_more |= any(isinstance(value, nn.Parameter) for value in args)
        return func(*args, **(kwargs or {}))

    def saw_plain(self, output: Tensor, given: tuple[Tensor, ...], mask: Tensor | None, scaling: float) -> bool:
        """Whether the calls were those of plain attention, and the output is [B, S_q, H, D] of it."""
        if self.does_more or [name for name, _ in self.calls] != _FUNCTIONS:
            return False
        query, key, value = given
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1).mT, value.repeat_interleave(groups, 1)
        scores = query @ key * scaling
        scores = scores if mask is None else scores + mask
        probabilities = scores.softmax(-1)
        expected = (query, key, scores, probabilities, value, (probabilities @ value).transpose(1, 2))
        (_, products), (_, softmax), (_, last) = self.calls
        return all(map(_agree, (*products[:2], softmax[0], *last[:2], output), expected))


def _agree(found: Any, expected: Tensor) -> bool:
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    tolerance = 4 * torch.finfo(expected.dtype).eps ** 0.75
    return torch.allclose(found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance)
