"""Is a network really spike-driven? Run it, watch every operation, and list what multiplies what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from transformers import PreTrainedModel

from las_sj.analysis.auditing.honest_nodes import expected_train, same_train
from las_sj.analysis.auditing.operators import (
    ADDITIONS,
    COMPARISONS,
    ELEMENTWISE_PRODUCTS,
    MATRIX_PRODUCTS,
    attention_macs,
    base_name,
    is_view,
    moves_only,
)
from las_sj.analysis.auditing.provenance import Origin, Provenance, is_spikes, tensors_in, train_origin
from las_sj.analysis.tables import Cell, Table, markdown_table
from las_sj.models import execution_of, running
from las_sj.models.execution import is_converted
from las_sj.models.inputs import TARGETS, sources
from las_sj.neurons import WindowNode

SPIKE_WEIGHT = "spike × weight"
SPIKE_ACCUMULATED = "spike × accumulated spike"
NEURON_UPDATE = "neuron update"
ADDITION = "addition"
COMPARISON = "comparison"
CONSTANT_SCALING = "constant scaling"
ANALOG_PRODUCT = "product of analog operands"
CLASSES = (
    SPIKE_WEIGHT,
    SPIKE_ACCUMULATED,
    NEURON_UPDATE,
    ADDITION,
    COMPARISON,
    CONSTANT_SCALING,
    ANALOG_PRODUCT,
)
Event = tuple[str, str, int | None]


@dataclass(frozen=True)
class AuditRow:
    """Operations of one class and operator within one module.

    Attributes:
        module: full name.
        kind: one of `CLASSES`.
        operator: of torch, and what it multiplies by.
        count: operations. Of spikes: those that a spike causes; neurons: updates, one a time step.
    """

    module: str
    kind: str
    operator: str
    count: int


@dataclass(frozen=True)
class Audit:
    """All operations of one call.

    Attributes:
        rows: by module, class and operator, in the order in which they first ran.
        time_steps: T, or None where the model is not converted.
        stages: populations of integrate-and-fire neurons on the longest way from input to output.
    """

    rows: list[AuditRow]
    time_steps: int | None
    stages: int

    @property
    def counts(self) -> dict[str, int]:
        """Operations by class."""
        counts = dict.fromkeys(CLASSES, 0)
        for row in self.rows:
            counts[row.kind] += row.count
        return counts

    @property
    def analog(self) -> list[AuditRow]:
        """Products of two analog operands, and non-linear functions of analog values."""
        return [row for row in self.rows if row.kind == ANALOG_PRODUCT]

    @property
    def analog_products(self) -> int:
        """How many there are; 0 in a fully spike-driven network."""
        return sum(row.count for row in self.analog)

    @property
    def fully_spike_driven(self) -> bool:
        """Whether the network has neurons, and every product has a spike or a constant as one operand."""
        return self.counts[NEURON_UPDATE] > 0 and self.analog_products == 0

    @property
    def latency_steps(self) -> int | None:
        """Time steps from input to output: each stage integrates a whole window before it fires."""
        return None if self.time_steps is None else self.stages * self.time_steps

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "fully_spike_driven": self.fully_spike_driven,
            "analog_products": self.analog_products,
            "counts": self.counts,
            "stages": self.stages,
            "time_steps": self.time_steps,
            "rows": [vars(row) for row in self.rows],
        }

    def by_operator(self) -> list[AuditRow]:
        """Rows summed over modules of the same name but for numbers, which are written "*"."""
        sums: dict[tuple[str, str, str], int] = {}
        for row in self.rows:
            name = ".".join("*" if part.isdigit() else part for part in row.module.split("."))
            key = (name, row.kind, row.operator)
            sums[key] = sums.get(key, 0) + row.count
        order = {kind: index for index, kind in enumerate(CLASSES)}
        rows = [AuditRow(*key, count) for key, count in sums.items()]
        return sorted(rows, key=lambda row: order[row.kind])

    def to_markdown(self) -> str:
        """The verdict, counts by class, and every operator."""
        verdict = "yes" if self.fully_spike_driven else f"no, {self.analog_products:,} products of analog operands"
        tables = [*markdown_table(*self.counts_table()), "", *markdown_table(*self.table())]
        return "\n".join([f"Fully spike-driven: {verdict}", "", *tables]) + "\n"

    def counts_table(self) -> Table:
        """Header and rows: operations by class."""
        return ["class", "operations"], [[kind, count] for kind, count in self.counts.items()]

    def table(self) -> Table:
        """Header and rows: `by_operator`."""
        rows: list[list[Cell]] = [[row.module, row.kind, row.operator, row.count] for row in self.by_operator()]
        return ["module", "class", "operator", "operations"], rows

    def __str__(self) -> str:
        return self.to_markdown()


def audit(model: PreTrainedModel, batch: Mapping[str, Any]) -> Audit:
    """List every operation of a call of `model`, a temporal one if it is converted.

    Slow, since values are checked: a short sequence tells as much as a long one.

    Args:
        model: converted or not; its execution is left as it was.
        batch: the call's keyword arguments.

    Raises:
        ValueError: the batch has no tokens, embeddings or pixels.
    """
    inputs = [batch[name] for name in sources() if isinstance(batch.get(name), Tensor)]
    if not inputs:
        raise ValueError(f"the batch must have one of {', '.join(sources())}, got {', '.join(batch) or 'nothing'}")
    batch = {name: value for name, value in batch.items() if name not in TARGETS}  # a loss is not part of the network
    mode = _AuditMode(model)
    for constant in (*model.parameters(), *model.buffers(), *tensors_in(dict(batch))):
        mode.provenance.mark(constant, None)
    for source in inputs:
        mode.provenance.mark(source, Origin(index=not source.is_floating_point()))
    temporal = running(model, "temporal") if is_converted(model) else nullcontext()
    # In inference mode composite operators would arrive whole.
    with torch.inference_mode(False), torch.no_grad(), temporal, _module_stack(mode), mode:
        output = model(**batch)
    depths = [origin.depth for origin in map(mode.provenance.of, tensors_in(output)) if origin is not None]
    time_steps = execution_of(model).time_steps if is_converted(model) else None
    rows = [AuditRow(*key, count) for key, count in mode.counts.items() if count]
    return Audit(rows, time_steps, max(depths, default=0))


@contextmanager
def _module_stack(mode: "_AuditMode") -> Iterator[None]:
    """Tell the mode which module runs."""
    handles = [
        register_module_forward_pre_hook(mode.enter_module),
        register_module_forward_hook(mode.leave_module, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _AuditMode(TorchDispatchMode):
    """Classifies each operation before it runs, and follows where its results come from."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.provenance = Provenance()
        self.counts: dict[tuple[str, str, str], int] = {}
        self._names = {module: name or type(model).__name__ for name, module in model.named_modules()}
        self._weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self._stack: list[nn.Module] = []
        self._node_input: Origin | None = None
        self._node_train: Tensor | None = None

    def enter_module(self, module: nn.Module, args: Any) -> None:
        self._stack.append(module)
        if isinstance(module, WindowNode):
            self._node_input = self.provenance.merged(tensors_in(args))
            with _disable_current_modes():
                self._node_train = expected_train(module, args[0])

    def leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()
        if isinstance(module, WindowNode) and isinstance(output, Tensor):
            self.provenance.mark(output, train_origin(module, self._node_input))
            owner = self._names.get(module, type(module).__name__)
            self._add(NEURON_UPDATE, type(module).__name__, output.numel(), owner)
            with _disable_current_modes():
                honest = same_train(self._node_train, output)
            if not honest:
                self._add(ANALOG_PRODUCT, "not what its neurons emit for its input", output.numel(), owner)

    @property
    def _inside_neurons(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1], WindowNode)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside_neurons:
            return func(*args, **kwargs)
        name = base_name(func)
        inputs = tensors_in((args, {key: value for key, value in kwargs.items() if key != "out"}))
        if name == "index" and (taken := self.provenance.of(args[0])) is not None and taken.index:
            inputs = [args[0]]  # tokens picked by a list in the code arrive with a tensor of unknown origin
        with _disable_current_modes():
            merged = self.provenance.merged(inputs)
            silent = moves_only(func, name, args, kwargs) or merged is None or merged.index
            events = [] if silent else self._classify(name, args, inputs)
        made_of_numbers_in_the_code = name in ("lift_fresh", "lift_fresh_copy")
        origin = None if made_of_numbers_in_the_code else merged
        output = func(*args, **kwargs)
        with _disable_current_modes():
            if name == "_to_copy":
                origin = self.provenance.of_copy(output, args[0], origin)
            self._follow(func, args, kwargs, output, origin)
            numel = sum(tensor.numel() for tensor in tensors_in(output))
            for kind, label, count in events:
                self._add(kind, label, numel if count is None else count)
        return output

    def _classify(self, name: str, args: Any, inputs: list[Tensor]) -> list[Event]:
        """What an operation that touches data does; a count of None is the size of its output."""
        if name in MATRIX_PRODUCTS:
            return self._matrix_product(name, args)
        if name in ELEMENTWISE_PRODUCTS:
            return self._elementwise_product(name, args)
        if name in ("sum", "mean", "cumsum"):
            scaled: list[Event] = [(CONSTANT_SCALING, "mean", None)] if name == "mean" else []
            return [(ADDITION, name, inputs[0].numel()), *scaled]
        if name in ADDITIONS:
            return [(ADDITION, name, None)]
        if name in COMPARISONS:
            return [(COMPARISON, name, inputs[0].numel())]
        fused = attention_macs(name, args)
        return [(ANALOG_PRODUCT, name, fused or inputs[0].numel())]

    def _matrix_product(self, name: str, args: Any) -> list[Event]:
        product = MATRIX_PRODUCTS[name]
        a, b = args[product.first], args[product.second]
        events = self._product_of(name, a, b, product.fan_out(a, b), product.macs(a, b))
        if product.adds is not None and isinstance(args[product.adds], Tensor):
            events.append((ADDITION, name, None))
        return events

    def _elementwise_product(self, name: str, args: Any) -> list[Event]:
        added = ELEMENTWISE_PRODUCTS[name]
        a, b = args[:2] if added is None else args[1:3]
        events: list[Event] = [] if added is None else [(ADDITION, name, None)]
        tensors = [operand for operand in (a, b) if isinstance(operand, Tensor)]
        data = [operand for operand in tensors if self.provenance.of(operand) is not None]
        if not data:
            return events
        shape = torch.broadcast_shapes(*(operand.shape for operand in tensors))
        if name in ("div", "addcdiv") and any(operand is b for operand in data):
            return [*events, (ANALOG_PRODUCT, name, shape.numel())]
        if len(data) == 2:
            fan_out = (shape.numel() // max(a.numel(), 1), shape.numel() // max(b.numel(), 1))
            return events + self._product_of(name, a, b, fan_out, shape.numel())
        constant = next((operand for operand in tensors if operand is not data[0]), None)
        is_weight = constant is not None and constant.untyped_storage()._cdata in self._weights
        if is_weight and constant is not None and constant.numel() > 1 and self._is_spikes(data[0]):
            fan_out = shape.numel() // max(data[0].numel(), 1)
            return [*events, (SPIKE_WEIGHT, name, _spikes_in(data[0]) * fan_out)]
        if shape.numel() > data[0].numel():  # each value meets several constants: a matrix in disguise
            return [*events, (ANALOG_PRODUCT, name, shape.numel())]
        return [*events, (CONSTANT_SCALING, f"{name} by {_name_of_constant(constant, is_weight)}", None)]

    def _product_of(self, name: str, a: Tensor, b: Tensor, fan_out: tuple[int, int], macs: int) -> list[Event]:
        """A product of two tensors, at least one of which depends on the input."""
        for spikes, other, synapses in ((a, b, fan_out[0]), (b, a, fan_out[1])):
            if self._is_spikes(spikes):
                kind = SPIKE_WEIGHT if self.provenance.of(other) is None else SPIKE_ACCUMULATED
                return [(kind, name, _spikes_in(spikes) * synapses)]
        return [(ANALOG_PRODUCT, name, macs)]

    def _is_spikes(self, tensor: Tensor) -> bool:
        return is_spikes(tensor, self.provenance.of(tensor))

    def _add(self, kind: str, operator: str, count: int, module: str | None = None) -> None:
        if module is None:
            module = next((self._names[module] for module in reversed(self._stack) if module in self._names), "")
        key = (module, kind, operator)
        self.counts[key] = self.counts.get(key, 0) + count

    def _follow(self, func: Any, args: Any, kwargs: Any, output: Any, origin: Origin | None) -> None:
        """Mark what an operation wrote."""
        schema = func._schema
        written = [
            value
            for index, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
            for value in [args[index] if index < len(args) else kwargs.get(argument.name)]
        ]
        for tensor in tensors_in(written):
            previous = self.provenance.of(tensor)
            parts = [found for found in (origin, previous) if found is not None]
            # Only part of a storage may have been written, so what was there before counts too.
            index = not tensor.is_floating_point() and all(part.index for part in parts)
            self.provenance.mark(tensor, Origin(max(part.depth for part in parts), index=index) if parts else None)
        if written or is_view(func):
            return
        for tensor in tensors_in(output):
            whole = origin is not None and origin.index and not tensor.is_floating_point()
            self.provenance.mark(tensor, origin if origin is None else replace(origin, index=whole))


def _spikes_in(tensor: Tensor) -> int:
    return int(tensor.count_nonzero())


def _name_of_constant(constant: Tensor | None, is_weight: bool) -> str:
    if is_weight:
        return "a weight"
    return "a scale factor" if constant is None or constant.numel() == 1 else "a table of constants"
