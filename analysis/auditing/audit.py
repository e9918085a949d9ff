"""Is a network really spike-driven? Run it, watch every operation, and list what multiplies what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from las_sj.analysis.auditing.classes import ANALOG_PRODUCT, CLASSES, COMPARISON, NEURON_UPDATE
from las_sj.analysis.auditing.follower import Follower
from las_sj.analysis.auditing.operators import DECISIONS, holds_fractions
from las_sj.analysis.auditing.provenance import Origin, tensors_in
from las_sj.analysis.auditing.roots import roots_of
from las_sj.analysis.tables import Cell, Table, markdown_table
from las_sj.models import execution_of, running
from las_sj.models.execution import is_converted
from las_sj.models.inputs import TARGETS
from las_sj.models.lanes import Lanes
from las_sj.models.tensor_parallel import refuse_parts


@dataclass(frozen=True)
class AuditRow:
    """Operations of one class and operator within one module.

    Attributes:
        module: full name.
        kind: one of `CLASSES`.
        operator: of torch, and what it multiplies by.
        count: operations. Of spikes: those that a spike causes; neurons: updates, one a time step.
        place: file, line and function that analog operations and decisions stand in, where that is not this package.
    """

    module: str
    kind: str
    operator: str
    count: int
    place: str = ""

    @property
    def name(self) -> str:
        """The operator, and the place where it is known."""
        return f"{self.operator} ({self.place})" if self.place else self.operator

    def __str__(self) -> str:
        return f"{self.module}: {self.name}"


@dataclass(frozen=True)
class Audit:
    """All operations of one call.

    Attributes:
        rows: by module, class, operator and place, in the order in which they first ran.
        time_steps: T, or None where the model is not converted.
        stages: populations of integrate-and-fire neurons on the longest way from input to output.
        lanes: of a network of rate codes; None of all others.
        flow: names of populations that each population's output comes to with no others in between, by name.
        drivers: names of layers of weights whose results each population integrates, by name.
    """

    rows: list[AuditRow]
    time_steps: int | None
    stages: int
    lanes: Lanes | None = None
    flow: Mapping[str, frozenset[str]] = field(default_factory=dict)
    drivers: Mapping[str, frozenset[str]] = field(default_factory=dict)

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
    def decisions(self) -> list[AuditRow]:
        """Where something is picked by its value: what is largest, in which order, yes or no."""
        return [row for row in self.rows if row.kind == COMPARISON and row.operator in DECISIONS]

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
        """Time steps from input to output: each stage integrates a whole window before it fires.

        Rate codes fire in the step in which they are driven, so that the input is presented and no more.
        """
        if self.lanes is not None:
            return self.lanes.presented
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
        """The verdict, what is analog and what is decided by name, counts by class, and every operator."""
        verdict = "yes" if self.fully_spike_driven else f"no, {self.analog_products:,} products of analog operands"
        named = [*_named("Analog", self.analog), *_named("Decided", self.decisions)]
        tables = [*markdown_table(*self.counts_table()), "", *markdown_table(*self.table())]
        return "\n".join([f"Fully spike-driven: {verdict}", "", *named, *tables]) + "\n"

    def counts_table(self) -> Table:
        """Header and rows: operations by class."""
        return ["class", "operations"], [[kind, count] for kind, count in self.counts.items()]

    def table(self) -> Table:
        """Header and rows: `by_operator`."""
        rows: list[list[Cell]] = [[row.module, row.kind, row.operator, row.count] for row in self.by_operator()]
        return ["module", "class", "operator", "operations"], rows

    def __str__(self) -> str:
        return self.to_markdown()


def audit(model: nn.Module, batch: Mapping[str, Any]) -> Audit:
    """List every operation of a call of `model`, a temporal one if it is converted.

    Slow, since values are checked: a short sequence tells as much as a long one.

    Args:
        model: converted or not; its execution is left as it was.
        batch: the call's keyword arguments: tokens, embeddings, images, sound, patches.

    Raises:
        ValueError: the batch has no tokens and no float input, or processes share the model.
    """
    refuse_parts(model, "an audit")
    batch = {name: value for name, value in batch.items() if name not in TARGETS}  # a loss is not part of the network
    follower = Follower(model)
    for constant in (*_held_by(model), *tensors_in(batch)):
        follower.provenance.mark(constant, None)
    for root in roots_of(batch):
        follower.provenance.mark(root, Origin(index=not holds_fractions(root)))
    temporal = running(model, "temporal") if is_converted(model) else nullcontext()
    # In inference mode composite operators would arrive whole.
    with torch.inference_mode(False), torch.no_grad(), temporal, _module_stack(follower), follower:
        output = model(**batch)
    depths = [origin.depth for origin in map(follower.provenance.of, tensors_in(output)) if origin is not None]
    lanes = execution_of(model).lanes if is_converted(model) else None
    time_steps = execution_of(model).time_steps if is_converted(model) else None
    rows = [
        AuditRow(module, kind, operator, count, place)
        for (module, kind, operator, place), count in follower.counts.items()
        if count
    ]
    flow, drivers = (
        {name: frozenset(found) for name, found in each.items()} for each in (follower.flow, follower.drivers)
    )
    return Audit(rows, time_steps if lanes is None else lanes.time_steps, max(depths, default=0), lanes, flow, drivers)


def _held_by(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of modules, such as tables of positions."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        for name, value in vars(module).items():
            if not name.startswith("_") or isinstance(value, Tensor):
                yield from tensors_in(value)


def _named(title: str, rows: list[AuditRow]) -> list[str]:
    """A list of some rows by name."""
    lines = list(dict.fromkeys(f"- {row}" for row in rows))
    return [f"{title}:", "", *lines, ""] if lines else []


@contextmanager
def _module_stack(follower: Follower) -> Iterator[None]:
    """Tell the follower which module runs."""
    handles = [
        register_module_forward_pre_hook(follower.enter_module),
        register_module_forward_hook(follower.leave_module, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
