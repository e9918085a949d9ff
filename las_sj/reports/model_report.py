"""What was found out about a converted model: counts, energy, audit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from las_sj.analysis import Audit, EnergyReport, Network, SpikeMonitor
from las_sj.analysis.tables import Cell, Table, markdown_table
from las_sj.data.output_file import MADE_BY
from las_sj.reports.hardware_section import HardwareSection
from las_sj.reports.settings import settings_in_words

SITE_COLUMNS = {
    "site": "site",
    "feeds": "feeds",
    "neurons": "neurons",
    "spikes per neuron": "spikes_per_neuron",
    "silent": "silent",
    "saturated": "saturated",
    "outliers": "outlier_share",
    "out of range": "out_of_range",
    "levels": "levels",
}
FROM_CONVERSION = (
    "model",
    "architecture",
    "quality",
    "coverage",
    "temporal_vs_accumulated",
    "data",
    "versions",
    "optimization",
)


@dataclass(frozen=True)
class ModelReport:
    """What was found.

    Attributes:
        folder: of the model.
        source: where the data came from.
        settings: of the conversion.
        conversion: las_report.json of the folder, or {}.
        monitor: counts of the data, in the fastest execution in which neurons spike.
        network: its populations of neurons.
        energy: what they cost.
        audit: every operation of a short temporal call.
        hardware: what `las-sj deploy` found out about the folder; None where it did not run.
    """

    folder: Path
    source: str
    settings: dict[str, Any]
    conversion: dict[str, Any]
    monitor: SpikeMonitor
    network: Network
    energy: EnergyReport
    audit: Audit
    hardware: HardwareSection | None = None

    @property
    def title(self) -> str:
        """What the model is."""
        return f"{self.conversion.get('model', self.folder)} as a spiking network"

    @property
    def amount(self) -> str:
        """How much was run: tokens of sequences, or images and sounds, which have none."""
        tokens, samples = self.monitor.tokens, self.monitor.samples
        kind = "sequence" if tokens else "sample"
        count = f"{samples} {kind}{'' if samples == 1 else 's'}"
        return f"{tokens:,} tokens in {count}" if tokens else count

    def sites(self) -> list[dict[str, Any]]:
        """Counts of each population."""
        return [
            {
                "site": name,
                "feeds": counts.site.feeds,
                "neurons": counts.neurons,
                "spikes_per_neuron": counts.spikes_per_neuron,
                "firing_rate": counts.trains.firing_rate,
                "levels": counts.trains.levels,
                "silent": counts.trains.silent,
                "saturated": counts.trains.saturated,
                "outlier_share": counts.outlier_share,
                "out_of_range": counts.out_of_range,
            }
            for name, counts in self.monitor.sites.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        return {
            "made_by": MADE_BY,
            "folder": str(self.folder),
            "data_of_this_report": self.source,
            "settings": self.settings,
            "conversion": {key: self.conversion[key] for key in FROM_CONVERSION if key in self.conversion},
            "tokens": self.monitor.tokens,
            "samples": self.monitor.samples,
            "spikes_per_neuron": self.monitor.spikes_per_neuron,
            "network": self.network.to_dict(),
            "energy": self.energy.to_dict(),
            "audit": self.audit.to_dict(),
            "sites": self.sites(),
            "hardware": None if self.hardware is None else dict(self.hardware.summary),
        }

    def summary(self) -> str:
        """A few lines for the terminal."""
        ratios = ", ".join(f"{name} {self.energy.ratio(name):.3f}" for name in self.energy.accountings)
        verdict = "yes" if self.audit.fully_spike_driven else f"no, {self.audit.analog_products:,} analog products"
        return (
            f"{self.amount}, {self.monitor.spikes_per_neuron:.3f} spikes per neuron\n"
            f"Energy, SNN / ANN: {ratios}\nFully spike-driven: {verdict}"
        )

    def to_markdown(self) -> str:
        """Summary, energy by kind and by operator, audit, neurons, counts, settings."""
        sections = [
            f"# {self.title}\n",
            f"<!-- {MADE_BY} -->\n",
            "\n".join(markdown_table(*self.summary_table())),
            "## Energy\n",
            self.energy.to_markdown("kind"),
            "\n".join(markdown_table(self.energy.header("operator"), self.energy.table("operator"))),
            "## Audit\n",
            self.audit.to_markdown(),
            "## Neurons\n",
            self.network.to_markdown(),
            "## Spikes by site\n",
            "\n".join(markdown_table(*self.sites_table())),
            "## Settings\n",
            "\n".join(markdown_table(*self.settings_table())),
        ]
        for title, table in [] if self.hardware is None else self.hardware.tables():
            sections += [f"## {title}\n", "\n".join(markdown_table(*table))]
        return "\n".join(sections) + "\n"

    def summary_table(self) -> Table:
        """The figures that people ask for first."""
        architecture = self.conversion.get("architecture", type(self.monitor.model).__name__)
        data = f"{self.source}: {self.amount}"
        rows = [
            ("architecture", str(architecture)),
            ("data of this report", data),
            *quality_rows(self.conversion.get("quality")),
            *self._network_rows(),
            *self._energy_rows(),
            *coverage_rows(self.conversion.get("coverage")),
            *optimization_rows(self.conversion.get("optimization")),
        ]
        return ["", "value"], [[*row] for row in rows]

    def _network_rows(self) -> list[tuple[str, str]]:
        network, steps = self.network, self.network.time_steps
        return [
            ("time steps, levels", f"{steps}, {self.settings['levels']}"),
            ("spikes per neuron (sites that feed weights)", f"{self.monitor.spikes_per_neuron:.3f}"),
            ("fully spike-driven", "yes" if self.audit.fully_spike_driven else "no"),
            ("products of analog operands", f"{self.audit.analog_products:,}"),
            ("latency, time steps", f"{network.latency_steps:,} ({network.stages} stages)"),
            ("throughput in a pipeline", f"a sequence every {network.steps_per_sequence} time steps"),
        ]

    def _energy_rows(self) -> list[tuple[str, str]]:
        energy = self.energy
        rows = [(f"energy, SNN / ANN, {name}", f"{energy.ratio(name):.3f}") for name in energy.accountings]
        bits = energy.equal_loss_bits
        return rows if bits is None else [*rows, ("bits of a quantised ANN with equal loss", str(bits))]

    def sites_table(self) -> Table:
        """Counts of each population."""
        rows: list[list[Cell]] = []
        for entry in self.sites():
            levels = ", ".join(f"{level}: {rate:.2g}" for level, rate in entry["levels"].items())
            rows.append([(entry | {"levels": levels})[key] for key in SITE_COLUMNS.values()])
        return [*SITE_COLUMNS], rows

    def settings_table(self) -> Table:
        """Settings of the conversion."""
        return ["setting", "value"], [[*row] for row in settings_in_words(self.settings)]


def quality_rows(quality: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the conversion lost, as it measured itself; nothing where it is not known."""
    if not quality:
        return []
    rows = [("relative error of the output (conversion)", f"{quality['relative_error']:.2e}")]
    if quality["ann"]["perplexity"] is not None:
        rows.insert(0, ("perplexity, SNN (conversion)", f"{quality['snn']['perplexity']:.4f}"))
        rows.insert(
            0, (f"perplexity, {quality.get('reference', 'ANN')} (conversion)", f"{quality['ann']['perplexity']:.4f}")
        )
    elif quality.get("top1_agreement") is not None:
        name = f"same most likely {quality.get('predicts', 'token')} (conversion)"
        rows.insert(0, (name, f"{100 * quality['top1_agreement']:.2f} %"))
    return rows


def coverage_rows(coverage: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What became spiking and what did not; nothing where it is not known."""
    if not coverage:
        return []
    return [
        ("became spiking", ", ".join(f"{count} {kind}" for kind, count in coverage["spiking"].items())),
        ("stayed analog", ", ".join(f"{name} ({why})" for name, why in coverage["analog"].items()) or "nothing"),
        *[
            ("decided by sums over T", f"{name}: {', '.join(functions)}")
            for name, functions in coverage.get("decisions", {}).items()
        ],
    ]


def optimization_rows(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What an optimisation was asked for, and what it measured; nothing of a plain conversion."""
    if not found:
        return []
    asked = f"loss {100 * found['loss']:g} %" if found["loss"] is not None else f"energy {found['energy']:g}"
    checked = found["checked"]
    return [
        ("optimisation, asked for", f"{asked} ({found['accounting'].replace('_', '-')})"),
        ("optimisation, loss on other data", f"{100 * checked['loss']:.3f} ± {100 * checked['loss_interval']:.3f} %"),
        ("optimisation, energy there", f"{checked['ratios'][found['accounting']]:.3f}"),
        ("optimisation, sites of most energy", _most_energy(found["sites"])),
    ]


def _most_energy(sites: dict[str, dict[str, Any]], shown: int = 3) -> str:
    """The sites on whose spikes most is spent, with their share."""
    first = sorted(sites, key=lambda name: -sites[name]["energy_share"])[:shown]
    return ", ".join(f"{name} ({100 * sites[name]['energy_share']:.1f} %)" for name in first)
