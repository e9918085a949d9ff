"""What a conversion did and what came of it, as JSON and as Markdown."""

from importlib.metadata import version
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.analysis.tables import markdown_table
from las_sj.config import LASConfig
from las_sj.conversion.quality import Quality
from las_sj.models import Coverage
from las_sj.neurons import HGNode


def build_report(
    model: PreTrainedModel,
    source: str,
    config: LASConfig,
    data: dict[str, str],
    quality: Quality,
    monitor: SpikeMonitor,
    temporal_gap: float,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The content of las_report.json.

    Args:
        model: the converted model.
        source: what was converted.
        config: its settings.
        data: where calibration and evaluation text came from.
        quality, monitor: as `evaluation.compare` returns.
        temporal_gap: relative difference of the two executions on one batch.
        seconds: duration of each part.
    """
    coverage: Coverage = model.__dict__["las_coverage"]
    sites = {name: _site_entry(counts) for name, counts in monitor.sites.items()}
    return {
        "model": source,
        "architecture": type(model).__name__,
        "versions": {
            "las_sj": version("las_sj"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "settings": config.to_dict(),
        "data": data,
        "coverage": {"spiking": coverage.spiking, "analog": coverage.analog},
        "quality": quality.to_dict(),
        "temporal_vs_accumulated": temporal_gap,
        "spikes_per_neuron": monitor.spikes_per_neuron,
        "out_of_range": sum(counts.out_of_range for counts in monitor.sites.values()),
        "energy": energy_report(monitor).to_dict(),
        "sites": sites,
        "seconds": seconds,
    }


def _site_entry(counts: Any) -> dict[str, Any]:
    node = counts.site.node
    entry: dict[str, Any] = {
        "feeds": counts.site.feeds,
        "fan_out": counts.site.fan_out,
        "neurons": counts.neurons,
        "outlier_share": counts.outlier_share,
        "silent": counts.trains.silent,
        "spikes_per_neuron": counts.spikes_per_neuron,
        "out_of_range": counts.out_of_range,
    }
    if isinstance(node, HGNode):
        return entry | {"function": node.function.name, "range": [node.low, node.high], "sub_neurons": node.sub_neurons}
    return entry | {name: float(value) for name, value in node.named_parameters()}


def to_markdown(report: dict[str, Any]) -> str:
    """The content of las_report.md."""
    quality, settings = report["quality"], report["settings"]
    rows = _quality_rows(quality)
    rows += [
        ("spikes per neuron (sites that feed weights)", f"{report['spikes_per_neuron']:.3f}"),
        ("temporal against accumulated run", f"{report['temporal_vs_accumulated']:.1e}"),
        ("inputs outside a calibrated range", _out_of_range_text(report)),
    ]
    lines = [f"# {report['model']} as a spiking network", ""]
    lines += markdown_table(("", report["architecture"]), rows)
    lines += ["", "## Energy, SNN / ANN", ""]
    lines += markdown_table(("accounting", "ratio"), _energy_rows(report["energy"]))
    lines += ["", *(f"{name}: {formula}  " for name, formula in report["energy"]["formulas"].items())]
    lines += ["", "## Coverage", ""]
    lines += markdown_table(
        ("module type", "became spiking"), [(kind, str(count)) for kind, count in report["coverage"]["spiking"].items()]
    )
    analog = report["coverage"]["analog"]
    lines += ["", "Stayed analog: " + ("nothing." if not analog else "")]
    lines += [f"- {name}: {reason}" for name, reason in analog.items()]
    lines += ["", "## Settings", ""]
    lines += markdown_table(("setting", "value"), [(name, str(value)) for name, value in settings.items()])
    lines += ["", *(f"{name.capitalize()}: {text}" + "  " for name, text in report["data"].items())]
    lines += ["", "## Neurons", ""]
    lines += markdown_table(
        ("site", "feeds", "spikes per neuron", "thresholds or function", "outside"),
        [_site_row(name, site) for name, site in report["sites"].items()],
    )
    return "\n".join(lines) + "\n"


def _quality_rows(quality: dict[str, Any]) -> list[tuple[str, str]]:
    if quality["kl"] is None:
        return [("relative error of the output", f"{quality['relative_error']:.2e}")]
    ann, snn = quality["ann"]["perplexity"], quality["snn"]["perplexity"]
    return [
        ("perplexity, ANN", f"{ann:.4f}"),
        ("perplexity, SNN", f"{snn:.4f} ({100 * (snn / ann - 1):+.4f} %)"),
        ("mean KL(ANN ‖ SNN) of next-token distributions", f"{quality['kl']:.2e} nats"),
        ("same most likely token", f"{100 * quality['top1_agreement']:.2f} %"),
        ("relative error of the logits", f"{quality['relative_error']:.2e}"),
    ]


def _energy_rows(energy: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, f"{entry['ratio']:.3f}") for name, entry in energy["totals"].items()]


def _out_of_range_text(report: dict[str, Any]) -> str:
    total = sum(site["neurons"] for site in report["sites"].values())
    worst = max(report["sites"].items(), key=lambda item: item[1]["out_of_range"], default=None)
    text = f"{report['out_of_range']} of {total:,}"
    if worst is None or not report["out_of_range"]:
        return text
    return f"{text}, most at {worst[0]} ({worst[1]['out_of_range']})"


def _site_row(name: str, site: dict[str, Any]) -> tuple[str, ...]:
    feeds = f"weights × {site['fan_out']}" if site["feeds"] == "weights" else site["feeds"]
    if "function" in site:
        low, high = site["range"]
        kind = f"{site['function']} on [{low:.4g}, {high:.4g}], {site['sub_neurons']} sub-neurons"
    else:
        kind = ", ".join(f"{key} {site[key]:.4g}" for key in ("theta", "theta_normal", "theta_outlier") if key in site)
    return name, feeds, f"{site['spikes_per_neuron']:.2f}", kind, str(site["out_of_range"])
