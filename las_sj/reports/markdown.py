"""The report of a converted model as Markdown."""

from typing import Any

from las_sj.analysis.tables import Cell, Table, format_cell, markdown_table
from las_sj.reports.model_report import ModelReport


def to_markdown(report: ModelReport) -> str:
    """Summary, energy by kind and by operator, audit, neurons, counts, settings."""
    name = report.conversion.get("model", str(report.folder))
    sections = [
        f"# {name} as a spiking network",
        "\n".join(markdown_table(*summary_table(report))),
        "## Energy\n",
        report.energy.to_markdown("kind"),
        "\n".join(markdown_table(report.energy.header("operator"), report.energy.table("operator"))),
        "## Audit\n",
        report.audit.to_markdown(),
        "## Neurons\n",
        report.network.to_markdown(),
        "## Spikes by site\n",
        "\n".join(markdown_table(*sites_table(report))),
        "## Settings\n",
        "\n".join(markdown_table(*settings_table(report))),
    ]
    return "\n".join(sections) + "\n"


def summary_table(report: ModelReport) -> Table:
    """The figures that people ask for first."""
    conversion, energy = report.conversion, report.energy
    rows: list[list[Cell]] = [
        ["architecture", str(conversion.get("architecture", type(report.monitor.model).__name__))],
        [
            "data of this report",
            f"{report.source}: {report.monitor.tokens:,} tokens in {report.monitor.samples} sequences",
        ],
        ["time steps, levels", f"{report.network.time_steps}, {report.settings['levels']}"],
        ["spikes per neuron (sites that feed weights)", f"{report.monitor.spikes_per_neuron:.3f}"],
        ["fully spike-driven", "yes" if report.audit.fully_spike_driven else "no"],
        ["products of analog operands", f"{report.audit.analog_products:,}"],
        ["latency, time steps", f"{report.network.latency_steps:,} ({report.network.stages} stages)"],
        ["throughput in a pipeline", f"a sequence every {report.network.time_steps} time steps"],
    ]
    rows[2:2] = [[label, text] for label, text in quality_rows(conversion.get("quality"))]
    rows += [[f"energy, SNN / ANN, {name}", f"{energy.ratio(name):.3f}"] for name in energy.accountings]
    if energy.equal_loss_bits is not None:
        rows.append(["bits of a quantised ANN with equal loss", str(energy.equal_loss_bits)])
    coverage = conversion.get("coverage", {})
    if coverage:
        analog = ", ".join(f"{name} ({reason})" for name, reason in coverage["analog"].items()) or "nothing"
        rows.append(["became spiking", ", ".join(f"{count} {kind}" for kind, count in coverage["spiking"].items())])
        rows.append(["stayed analog", analog])
    return ["", "value"], rows


def quality_rows(quality: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the conversion lost, as it measured itself."""
    if not quality:
        return []
    rows = [("relative error of the output (conversion)", f"{quality['relative_error']:.2e}")]
    if quality["ann"]["perplexity"] is not None:
        rows.insert(0, ("perplexity, SNN (conversion)", f"{quality['snn']['perplexity']:.4f}"))
        rows.insert(0, ("perplexity, ANN (conversion)", f"{quality['ann']['perplexity']:.4f}"))
    return rows


def sites_table(report: ModelReport) -> Table:
    """Counts of each population."""
    header = [
        "site",
        "feeds",
        "neurons",
        "spikes per neuron",
        "silent",
        "saturated",
        "outliers",
        "out of range",
        "levels",
    ]
    rows: list[list[Cell]] = [
        [
            entry["site"],
            entry["feeds"],
            entry["neurons"],
            entry["spikes_per_neuron"],
            entry["silent"],
            entry["saturated"],
            entry["outlier_share"],
            entry["out_of_range"],
            ", ".join(f"{level}: {rate:.2g}" for level, rate in entry["levels"].items()),
        ]
        for entry in report.sites()
    ]
    return header, rows


def settings_table(report: ModelReport) -> Table:
    """Settings of the conversion."""
    return ["setting", "value"], [[name, str(value)] for name, value in report.settings.items()]


def cells_of(rows: list[list[Cell]]) -> list[list[tuple[str, str]]]:
    """Each cell as it is shown, and what it is sorted by."""
    return [[(format_cell(cell), "" if isinstance(cell, str) else repr(cell)) for cell in row] for row in rows]
