"""What a conversion did and what came of it: las_report.json and las_report.md."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from las_sj.analysis import EnergyReport, SpikeMonitor, energy_report
from las_sj.analysis.tables import markdown_table
from las_sj.config import LASConfig
from las_sj.conversion.quality import Quality
from las_sj.fas_config import FASConfig
from las_sj.models import Coverage, execution_of
from las_sj.reports.settings import settings_in_words
from las_sj.reports.site_report import SiteReport, site_report

KINDS = {"token": "next-token", "class": "class", "token of a frame": "frame"}
UNTRAINED = (
    "The model was never trained with quantised activations, for which these methods are: las-sj fas finetune does."
)
SITE_COLUMNS = ("site", "feeds", "spikes per neuron", "thresholds or function", "outside")


@dataclass(frozen=True)
class ConversionReport:
    """A conversion.

    Attributes:
        model: what was converted.
        architecture: its class.
        versions: of what converted it.
        settings: of the network.
        data: where calibration and evaluation text came from.
        coverage: what became spiking and what did not.
        quality: the spiking network against the ANN.
        temporal_gap: relative difference of the two executions on one batch; of rate codes the error of the SNN against
            the quantised ANN.
        spikes_per_neuron: of the sites that feed weights.
        energy: of what was compared.
        sites: all populations of neurons.
        seconds: duration of each part.
        quantised: of rate codes, the quantised ANN against the ANN.
        reference: what the network is compared with: "ANN", or "quantised ANN" of a model that was trained as one.
        optimization: what an optimisation chose, as plain values; None without one.
        chosen: the same in Markdown.
    """

    model: str
    architecture: str
    versions: dict[str, str]
    settings: LASConfig | FASConfig
    data: dict[str, str]
    coverage: Coverage
    quality: Quality
    temporal_gap: float
    spikes_per_neuron: float
    energy: EnergyReport
    sites: list[SiteReport]
    seconds: dict[str, float]
    quantised: Quality | None = None
    reference: str = "ANN"
    optimization: dict[str, Any] | None = None
    chosen: str = ""

    @property
    def was_trained(self) -> bool:
        """Whether quantised activations, where the network has any, are those that the model was trained with."""
        return self.reference != "ANN" or isinstance(self.settings, LASConfig)

    @property
    def out_of_range(self) -> int:
        """Inputs outside a calibrated range, of all sites."""
        return sum(site.out_of_range for site in self.sites)

    def to_dict(self) -> dict[str, Any]:
        """The content of las_report.json."""
        quantised = {} if self.quantised is None else {"quantised_ann": _of_quantised(self.quantised)}
        return {
            "model": self.model,
            "architecture": self.architecture,
            "versions": self.versions,
            "settings": self.settings.to_dict(),
            "data": self.data,
            "coverage": asdict(self.coverage),
            "quality": self.quality.to_dict() | quantised | {"reference": self.reference},
            "temporal_vs_accumulated": self.temporal_gap,
            "spikes_per_neuron": self.spikes_per_neuron,
            "out_of_range": self.out_of_range,
            "energy": self.energy.to_dict(),
            "sites": {site.name: site.to_dict() for site in self.sites},
            "seconds": self.seconds,
            **({} if self.optimization is None else {"optimization": self.optimization}),
        }

    def to_markdown(self) -> str:
        """The content of las_report.md."""
        neurons = markdown_table(SITE_COLUMNS, [site.row() for site in self.sites])
        chosen = ["", self.chosen.rstrip()] if self.chosen else []
        return "\n".join([self.summary(), *chosen, "", "## Neurons", "", *neurons]) + "\n"

    def summary(self) -> str:
        """Title and figures, for the terminal."""
        return f"# {self.model} as a spiking network\n\n{self.figures()}"

    def figures(self) -> str:
        """All sections but that of the single populations: quality, energy, coverage, settings."""
        return "\n\n".join("\n".join(lines) for lines in self._sections())

    def _sections(self) -> list[list[str]]:
        """The lines between two blank ones."""
        energy = [(name, f"{self.energy.ratio(name):.3f}") for name in self.energy.accountings]
        spiking = [(kind, str(count)) for kind, count in self.coverage.spiking.items()]
        settings = settings_in_words(self.settings.to_dict())
        analog = [f"- {name}: {reason}" for name, reason in self.coverage.analog.items()]
        return [
            markdown_table(("", self.architecture), self._results()),
            *([] if self.was_trained else [[UNTRAINED]]),
            ["## Energy, SNN / ANN"],
            markdown_table(("accounting", "ratio"), energy),
            [f"{name}: {formula}  " for name, formula in self.energy.formulas().items()],
            ["## Coverage"],
            markdown_table(("module type", "became spiking"), spiking),
            ["Stayed analog: " + ("" if analog else "nothing."), *analog],
            *self._of_operations(),
            ["## Settings"],
            markdown_table(("setting", "value"), settings),
            [f"{name.capitalize()}: {source}  " for name, source in self.data.items()],
        ]

    def _of_operations(self) -> list[list[str]]:
        """What was decided by sums over T, and what an audit has found, if one was made."""
        decisions, found = self.coverage.decisions, self.coverage.analog_operations
        lines = [f"- {name}: {', '.join(functions)}" for name, functions in decisions.items()]
        sections = [["Decided by sums over T:", *lines]] if lines else []
        if found is None:
            return [*sections, ["Audit: not a part of this conversion; `python -m las_sj.report` makes one."]]
        lines = [f"- {name}: {', '.join(functions)}" for name, functions in found.items()]
        return [*sections, ["Audit of a short call, analog operations: " + ("" if lines else "none."), *lines]]

    def _results(self) -> list[tuple[str, str]]:
        """What is asked for first, by name."""
        return [
            *_quality_rows(self.quality, self.quantised, self.reference),
            ("spikes per neuron (sites that feed weights)", f"{self.spikes_per_neuron:.3f}"),
            *self._rows_of_executions(),
        ]

    def _rows_of_executions(self) -> list[tuple[str, str]]:
        if isinstance(self.settings, FASConfig) and not self.settings.fully_spiking:
            return [("temporal error: SNN against the quantised ANN, one batch", f"{self.temporal_gap:.1e}")]
        return [
            ("temporal against accumulated run", f"{self.temporal_gap:.1e}"),
            ("inputs outside a calibrated range", self._out_of_range_text()),
        ]

    def _out_of_range_text(self) -> str:
        text = f"{self.out_of_range} of {sum(site.neurons for site in self.sites):,}"
        if not self.out_of_range:
            return text
        worst = max(self.sites, key=lambda site: site.out_of_range)
        return f"{text}, most at {worst.name} ({worst.out_of_range})"


def conversion_report(
    model: PreTrainedModel,
    source: str,
    config: LASConfig | FASConfig,
    data: dict[str, str],
    quality: Quality,
    monitor: SpikeMonitor,
    temporal_gap: float,
    seconds: dict[str, float],
    quantised: Quality | None = None,
    reference: str = "ANN",
) -> ConversionReport:
    """The report of a conversion.

    Args:
        model: the converted model.
        source: what was converted.
        config: its settings.
        data: where calibration and evaluation text came from.
        quality, monitor: as `las_sj.conversion.quality.compare` returns.
        temporal_gap: relative difference of the two executions on one batch.
        seconds: duration of each part.
        quantised, reference: as `ConversionReport` has them.
    """
    versions = {"las_sj": version("las_sj"), "torch": torch.__version__, "transformers": transformers.__version__}
    return ConversionReport(
        model=source,
        architecture=type(model).__name__,
        versions=versions,
        settings=config,
        data=data,
        coverage=execution_of(model).coverage,
        quality=quality,
        temporal_gap=temporal_gap,
        spikes_per_neuron=monitor.spikes_per_neuron,
        energy=energy_report(monitor),
        sites=[site_report(name, counts) for name, counts in monitor.sites.items()],
        seconds=seconds,
        quantised=quantised,
        reference=reference,
    )


def _of_quantised(quality: Quality) -> dict[str, Any]:
    entry = quality.to_dict()
    return entry.pop("snn") | {name: entry[name] for name in ("kl", "top1_agreement", "relative_error")}


def _quality_rows(quality: Quality, quantised: Quality | None, reference: str) -> list[tuple[str, str]]:
    ann, snn, kl, agreement = quality.ann_perplexity, quality.snn_perplexity, quality.kl, quality.top1_agreement
    if kl is None or agreement is None:
        return [("relative error of the output", f"{quality.relative_error:.2e}")]
    rows = [
        (f"mean KL({reference} ‖ SNN) of {KINDS[quality.predicts]} distributions", f"{kl:.2e} nats"),
        (f"same most likely {quality.predicts}", f"{100 * agreement:.2f} %"),
        ("relative error of the logits", f"{quality.relative_error:.2e}"),
    ]
    if ann is None or snn is None:
        return rows
    perplexities = [
        (f"perplexity, {reference}", f"{ann:.4f}"),
        ("perplexity, SNN", f"{snn:.4f} ({100 * (snn / ann - 1):+.4f} %)"),
    ]
    between = None if quantised is None else quantised.snn_perplexity
    if between is not None:
        perplexities.insert(1, ("perplexity, quantised ANN", f"{between:.4f} ({100 * (between / ann - 1):+.4f} %)"))
    return perplexities + rows
