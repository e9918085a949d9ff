"""Energy of a converted model and of the original, operator by operator, in three accountings.

None of them favours either side silently: what a column leaves out is said under it, and unfavourable results are
printed like the others.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from las_sj.analysis.energies.costs import EnergyCosts
from las_sj.analysis.energies.formulas import formulas, formulas_of_rate_codes
from las_sj.analysis.energies.operations import KINDS, MAC_KINDS, Operations, count_operations
from las_sj.analysis.energies.prices import EQUAL_LOSS, Energies, Prices, code_bits
from las_sj.analysis.spikes.spike_monitor import SpikeMonitor
from las_sj.analysis.tables import markdown_table
from las_sj.models.lanes import Lanes

ACCOUNTINGS = ("paper", "level_aware", "with_memory")
GROUPINGS = ("kind", "layer", "operator")


@dataclass(frozen=True)
class EnergyRow:
    """One operator, or a group of them.

    Attributes:
        name, kind: of the operator; a group has its own name and the kind "".
        operations: counts, summed over the group.
        ann_pj, snn_pj: energy by accounting, pJ.
    """

    name: str
    kind: str
    operations: Operations
    ann_pj: Energies
    snn_pj: Energies


class EnergyReport:
    """Energies of everything that a monitor saw.

    Args:
        operations: counts by operator.
        costs: energies of single operations.
        time_steps: T.
        tokens, samples: what the counts are of.
        equal_loss_bits: the fewest bits of activations with which the ANN loses no more than the SNN, if measured.
        lanes: of a network of rate codes; None of all others.

    Attributes:
        rows: one for each operator.
    """

    def __init__(
        self,
        operations: Sequence[Operations],
        costs: EnergyCosts,
        time_steps: int,
        tokens: int,
        samples: int,
        equal_loss_bits: int | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.costs = costs
        self.time_steps = time_steps
        self.tokens = tokens
        self.samples = samples
        self.equal_loss_bits = equal_loss_bits
        self.lanes = lanes
        prices = Prices(costs, time_steps, equal_loss_bits, lanes)
        self.rows = [EnergyRow(row.name, row.kind, row, prices.ann_pj(row), prices.snn_pj(row)) for row in operations]

    @property
    def code_bits(self) -> int:
        """Bits that the code carries: T + 1 of T signed binary steps, ⌈log2(T+1)⌉ of rate codes."""
        return code_bits(self.time_steps, self.lanes)

    @property
    def accountings(self) -> tuple[str, ...]:
        """Names of the columns; the last compares at equal loss and is there if that was measured."""
        return ACCOUNTINGS if self.equal_loss_bits is None else (*ACCOUNTINGS, EQUAL_LOSS)

    def total_pj(self, accounting: str, side: str) -> float:
        """Energy of all that was run, pJ; "paper" has the operators that a count of MACs sees.

        Args:
            accounting: one of `accountings`.
            side: "ann" or "snn".

        Raises:
            ValueError: an unknown accounting or side.
        """
        if accounting not in self.accountings:
            raise ValueError(f"accounting must be one of {', '.join(self.accountings)}, got {accounting!r}")
        if side not in ("ann", "snn"):
            raise ValueError(f"side must be ann or snn, got {side!r}")
        rows = [row for row in self.rows if accounting != "paper" or row.kind in MAC_KINDS]
        return sum((row.ann_pj if side == "ann" else row.snn_pj)[accounting] for row in rows)

    def ratio(self, accounting: str) -> float:
        """Energy of the SNN over that of the ANN; NaN where nothing was counted.

        Raises:
            ValueError: an unknown accounting.
        """
        ann = self.total_pj(accounting, "ann")
        return self.total_pj(accounting, "snn") / ann if ann else float("nan")

    def grouped(self, by: str = "kind") -> list[EnergyRow]:
        """Rows summed by "kind" or "layer", or one for each "operator".

        Raises:
            ValueError: another grouping.
        """
        if by not in GROUPINGS:
            raise ValueError(f"by must be one of {', '.join(GROUPINGS)}, got {by!r}")
        if by == "operator":
            return self.rows
        groups: dict[str, list[EnergyRow]] = {}
        for row in self.rows:
            groups.setdefault(row.kind if by == "kind" else row.operations.layer, []).append(row)
        names = [kind for kind in KINDS if kind in groups] if by == "kind" else list(groups)
        return [_summed(name, name if by == "kind" else "", groups[name]) for name in names]

    def bars(self) -> list[tuple[str, str, float, float]]:
        """For `plot_energy`: layer, kind, and energies of both sides in the level-aware accounting, pJ."""
        return [
            (row.operations.layer, row.kind, row.ann_pj["level_aware"], row.snn_pj["level_aware"])
            for row in self.rows
            if row.kind != "embedding"
        ]

    def formulas(self) -> dict[str, str]:
        """How each column is computed."""
        if self.lanes is not None:
            return formulas_of_rate_codes(self.costs, self.lanes, self.equal_loss_bits)
        texts = formulas(self.costs, self.time_steps, self.equal_loss_bits)
        for kind in ("analog", "constant"):
            if not any(row.kind == kind for row in self.rows):
                del texts[kind]
        return texts

    def header(self, by: str = "operator") -> list[str]:
        """Names of the columns of `table`."""
        names = ["operator", "kind"] if by == "operator" else [by]
        columns = [*names, "MACs", "synaptic operations", "spikes per neuron"]
        energies = [f"{side} {name.replace('_', ' ')}, µJ" for name in ACCOUNTINGS for side in ("ANN", "SNN")]
        # At equal loss the SNN costs what it costs with memory.
        return columns + energies + ([] if self.equal_loss_bits is None else ["ANN with memory, equal loss, µJ"])

    def table(self, by: str = "kind") -> list[list[str | float]]:
        """Rows of plain values under `header`."""
        return [self._cells(row, by) for row in self.grouped(by)]

    def _cells(self, row: EnergyRow, by: str) -> list[str | float]:
        counts = row.operations
        rate = counts.spikes / counts.neurons if counts.neurons else 0.0
        names = [row.name, row.kind] if by == "operator" else [row.name]
        cells: list[str | float] = [*names, counts.macs, counts.synaptic_operations, rate]
        for name in ACCOUNTINGS:
            cells += [row.ann_pj[name] * 1e-6, row.snn_pj[name] * 1e-6]
        return cells if self.equal_loss_bits is None else [*cells, row.ann_pj[EQUAL_LOSS] * 1e-6]

    def to_csv(self, by: str = "operator") -> str:
        """The table as CSV, with counts."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.header(by))
        writer.writerows(self.table(by))
        return buffer.getvalue()

    def totals(self) -> dict[str, Any]:
        """Energies and ratios by accounting, in all, per token and per sample."""
        totals: dict[str, Any] = {}
        for name in self.accountings:
            ann, snn = self.total_pj(name, "ann"), self.total_pj(name, "snn")
            totals[name] = {
                "ratio": self.ratio(name),
                "ann_pj": ann,
                "snn_pj": snn,
                "ann_pj_per_token": ann / self.tokens if self.tokens else None,
                "snn_pj_per_token": snn / self.tokens if self.tokens else None,
                "ann_pj_per_sample": ann / self.samples if self.samples else None,
                "snn_pj_per_sample": snn / self.samples if self.samples else None,
            }
        return totals

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        rows = [asdict(row.operations) | {"ann_pj": row.ann_pj, "snn_pj": row.snn_pj} for row in self.rows]
        return {
            "costs": asdict(self.costs),
            "time_steps": self.time_steps,
            "tokens": self.tokens,
            "samples": self.samples,
            "code_bits": self.code_bits,
            "equal_loss_bits": self.equal_loss_bits,
            "totals": self.totals(),
            "formulas": self.formulas(),
            "operators": rows,
        }

    def to_markdown(self, by: str = "kind") -> str:
        """Totals, the table, and the formulas under it."""
        lines = [*markdown_table(*self.totals_table()), "", *markdown_table(self.header(by), self.table(by)), ""]
        lines += [f"- *{name}*: {formula}" for name, formula in self.formulas().items()]
        return "\n".join(lines) + "\n"

    def totals_table(self) -> tuple[list[str], list[list[str | float]]]:
        """Header and rows: ratio and energies by accounting; per token where there are any."""
        per = {"token": self.tokens, "sample": max(self.samples, 1)}
        counts = {unit: count for unit, count in per.items() if count}
        header = ["accounting", "SNN / ANN", *(f"{side} µJ per {unit}" for unit in counts for side in ("ANN", "SNN"))]
        rows: list[list[str | float]] = []
        for name in self.accountings:
            pair = (self.total_pj(name, "ann"), self.total_pj(name, "snn"))
            rows.append([name, self.ratio(name), *(pj * 1e-6 / count for count in counts.values() for pj in pair)])
        return header, rows

    def __str__(self) -> str:
        return self.to_markdown()


def energy_report(
    monitor: SpikeMonitor, costs: EnergyCosts | str = "fp32", equal_loss_bits: int | None = None
) -> EnergyReport:
    """The energy of what `monitor` counted.

    Args:
        monitor: a monitor that has seen a call.
        costs: energies of single operations, or the name of a preset ("fp32", "fp16", "int8").
        equal_loss_bits: as in `EnergyReport`.

    Raises:
        ValueError: the monitor has seen nothing, or an unknown preset.
    """
    if not any(counts.neurons for counts in monitor.sites.values()):
        temporal = "" if monitor.lanes is None else " in the temporal execution, the only one in which rate codes spike"
        raise ValueError(
            f"the monitor has seen no call{temporal}: run the model within `with SpikeMonitor(model) as monitor:`"
        )
    costs = EnergyCosts.preset(costs) if isinstance(costs, str) else costs
    operations = count_operations(monitor)
    lanes = monitor.lanes
    steps = monitor.time_steps if lanes is None else lanes.time_steps
    return EnergyReport(operations, costs, steps, monitor.tokens, monitor.samples, equal_loss_bits, lanes)


def _summed(name: str, kind: str, rows: Iterable[EnergyRow]) -> EnergyRow:
    total = Operations(name, kind)
    ann: Energies = {}
    snn: Energies = {}
    for row in rows:
        _add_counts(total, row.operations)
        for energies, more in ((ann, row.ann_pj), (snn, row.snn_pj)):
            for accounting, value in more.items():
                energies[accounting] = energies.get(accounting, 0.0) + value
    return EnergyRow(name, kind, total, ann, snn)


def _add_counts(total: Operations, more: Operations) -> None:
    for field, value in vars(more).items():
        if isinstance(value, int):
            setattr(total, field, getattr(total, field) + value)
    for name, count in more.native.items():
        total.native[name] = total.native.get(name, 0) + count
