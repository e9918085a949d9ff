"""Where the spiking neurons are: populations, sub-neurons, thresholds, tables, and the latency of the whole."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from las_sj.analysis.spikes.spike_monitor import SpikeMonitor
from las_sj.analysis.tables import Cell, Table, markdown_table
from las_sj.models import Site
from las_sj.models.lanes import Lanes
from las_sj.neurons import CodingHGNode, HGNode, OATNode, ThresholdNode
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSWindowNode, RateCodedNode


@dataclass(frozen=True)
class Population:
    """The neurons of one site.

    Attributes:
        name: full name of their node.
        neuron: "OAT", "MT", "HG", "coding HG", or "IF" and "calibrated IF" of quantised activations.
        feeds: what their spikes go into.
        neurons: how many one sequence has, on average over those that were run.
        sub_neurons: of each neuron.
        thresholds: base thresholds of neurons that code, by name; empty for HG neurons. Calibrated ones have the means
            of thresholds and of first potentials in thresholds too.
        function: of HG neurons, else "".
        low, high: the range of inputs.
        table_entries, table_bytes: size of the tables of HG neurons.
        stored_lines: of HG neurons, the sub-neurons whose parameters are not those of others, shifted by binary digits.
        code: of a population that does not have the code of most of the others, in words; else "".
    """

    name: str
    neuron: str
    feeds: str
    neurons: float
    sub_neurons: int
    thresholds: dict[str, float]
    function: str
    low: float
    high: float
    table_entries: int
    table_bytes: int
    stored_lines: int = 0
    code: str = ""

    @property
    def description(self) -> str:
        """Thresholds, or function and range."""
        function = f"{self.function} on [{self.low:.4g}, {self.high:.4g}]" if self.function else ""
        thresholds = ", ".join(f"{name} {value:.4g}" for name, value in self.thresholds.items())
        return "; ".join(text for text in (function, thresholds, self.code) if text)


@dataclass(frozen=True)
class Network:
    """A converted model as a network of neurons.

    Attributes:
        time_steps: T.
        tokens: mean length of the sequences that were run.
        lanes: of a network of rate codes; None of all others.
        stages: populations on the longest way from input to output.
        populations: all of them, in the order of the model.
    """

    time_steps: int
    tokens: float
    stages: int
    populations: list[Population]
    lanes: Lanes | None = None

    @property
    def neurons(self) -> float:
        """Neurons that a sequence of `tokens` tokens needs."""
        return sum(population.neurons for population in self.populations)

    @property
    def sub_neurons(self) -> float:
        """Their sub-neurons."""
        return sum(population.neurons * population.sub_neurons for population in self.populations)

    @property
    def latency_steps(self) -> int:
        """Time steps from input to output: each stage integrates a whole window before it fires.

        Rate codes fire in the step in which they are driven, so that the input is presented and no more.
        """
        return self.stages * self.time_steps if self.lanes is None else self.lanes.presented

    @property
    def steps_per_sequence(self) -> int:
        """Time steps between the ends of two sequences, one after the other."""
        return self.time_steps if self.lanes is None else self.lanes.presented

    @property
    def table_bytes(self) -> int:
        """Size of all tables."""
        return sum(population.table_bytes for population in self.populations)

    @property
    def most_stored_lines(self) -> int:
        """Of one population: what the largest table has to hold."""
        return max((population.stored_lines for population in self.populations), default=0)

    def summary(self) -> dict[str, Any]:
        """The figures of the whole."""
        return {
            "time_steps": self.time_steps,
            "populations": len(self.populations),
            "tokens_per_sequence": self.tokens,
            "neurons_per_sequence": self.neurons,
            "sub_neurons_per_sequence": self.sub_neurons,
            "table_entries": sum(population.table_entries for population in self.populations),
            "table_bytes": self.table_bytes,
            "stored_lines": sum(population.stored_lines for population in self.populations),
            "most_stored_lines_of_a_population": self.most_stored_lines,
            "stages_on_longest_path": self.stages,
            "latency_steps": self.latency_steps,
            "steps_per_sequence_when_pipelined": self.steps_per_sequence,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**self.summary(), "sites": [vars(population) for population in self.populations]}

    def to_markdown(self) -> str:
        """The figures of the whole, and a table of all populations."""
        lines = [
            f"- {len(self.populations)} populations; for a sequence of {self.tokens:.0f} tokens, {self.neurons:,.0f} "
            f"neurons with {self.sub_neurons:,.0f} sub-neurons",
            self._latency_text(),
            *self._tables_text(),
            "",
            *markdown_table(*self.table()),
        ]
        return "\n".join(lines) + "\n"

    def _tables_text(self) -> list[str]:
        entries = sum(population.table_entries for population in self.populations)
        size = f"{self.table_bytes / 1024:,.0f} KiB"
        if not entries:
            return []
        largest = max(site.sub_neurons for site in self.populations if site.function)
        return [
            f"- tables of HG neurons: {entries:,} numbers, {size}; of one population at most {largest:,} sub-neurons, "
            f"which share at most {self.most_stored_lines:,} lines, the others being shifted by binary digits"
        ]

    def _latency_text(self) -> str:
        stages = f"{self.stages} stages of neurons on the longest path"
        if self.lanes is not None:
            return (
                f"- T = {self.time_steps} time steps; {stages}, each of which fires in the step in which it is driven: "
                f"latency {self.latency_steps:,} time steps, {self.lanes.before} of them before and "
                f"{self.lanes.looked_ahead} looked ahead at"
            )
        return (
            f"- T = {self.time_steps} time steps a window; {stages}, each of which integrates its window before it "
            f"fires: latency {self.latency_steps:,} time steps; pipelined, a sequence every {self.time_steps}"
        )

    def table(self) -> Table:
        """Header and rows: all populations."""
        header = [
            "site",
            "neuron",
            "feeds",
            "neurons per sequence",
            "sub-neurons each",
            "lines",
            "thresholds or function",
        ]
        rows: list[list[Cell]] = [
            [
                site.name,
                site.neuron,
                site.feeds,
                round(site.neurons),
                site.sub_neurons,
                site.stored_lines or "",
                site.description,
                site.table_bytes,
            ]
            for site in self.populations
        ]
        return [*header, "bytes"], rows


def describe_network(monitor: SpikeMonitor, stages: int) -> Network:
    """The network that `monitor` saw run.

    Args:
        monitor: has counted at least one call.
        stages: as `audit` found.

    Raises:
        ValueError: the monitor has seen nothing.
    """
    if not monitor.samples:
        raise ValueError("the monitor has seen no call: run the model within `with SpikeMonitor(model) as monitor:`")
    codes = own_codes(monitor)
    populations = [
        replace(_population(name, counts.site, counts.neurons / monitor.samples), code=codes.get(name, ""))
        for name, counts in monitor.sites.items()
    ]
    lanes = monitor.lanes
    steps = monitor.time_steps if lanes is None else lanes.time_steps
    return Network(steps, monitor.tokens / monitor.samples, stages, populations, lanes)


def own_codes(monitor: SpikeMonitor) -> dict[str, str]:
    """The codes, in words, of populations that do not have the one that most have, by name."""
    nodes = {name: counts.site.node for name, counts in monitor.sites.items()}
    codes = {
        name: (node.code.levels, node.code.max_spikes)
        for name, node in nodes.items()
        if isinstance(node, ThresholdNode)
    }
    common = Counter(codes.values()).most_common(1)
    return {
        name: f"{levels} level{'s' * (levels > 1)}, " + ("no limit" if most is None else f"at most {most} spikes")
        for name, (levels, most) in codes.items()
        if (levels, most) != common[0][0]
    }


def _population(name: str, site: Site, neurons: float) -> Population:
    node = site.node
    if isinstance(node, HGNode | CodingHGNode):
        buffers = list(node.buffers())
        entries, size = sum(t.numel() for t in buffers), sum(t.numel() * t.element_size() for t in buffers)
        low, high, function = node.low, node.high, node.function.name
        tables = (entries, size, node.stored_lines)
        kind = "HG" if isinstance(node, HGNode) else "coding HG"
        bases = {key: float(value.detach().max()) for key, value in node.named_parameters()}
        return Population(name, kind, site.feeds, neurons, node.sub_neurons, bases, function, low, high, *tables)
    if isinstance(node, RateCodedNode):
        highest, kind, means = float(node.scale.detach().max()), "IF", {}
        if isinstance(node, CalibratedIFNode):
            kind = "calibrated IF"
            means = {f"mean {name}": float(value.detach().mean()) for name, value in node.named_parameters()}
        return Population(name, kind, site.feeds, neurons, 1, {"theta": highest} | means, "", 0.0, highest, 0, 0)
    thresholds = {key: float(value.detach().max()) for key, value in node.named_parameters()}
    largest = max(thresholds.values())
    if isinstance(node, QCFSWindowNode):
        return Population(name, "IF", site.feeds, neurons, 1, thresholds, "", 0.0, largest, 0, 0)
    kind, sub_neurons = ("OAT", 2) if isinstance(node, OATNode) else ("MT", 1)
    return Population(name, kind, site.feeds, neurons, sub_neurons, thresholds, "", -largest, largest, 0, 0)
