"""One population of neurons in the report of a conversion."""

from dataclasses import asdict, dataclass
from typing import Any

from las_sj.analysis import SiteSpikes
from las_sj.neurons import CodingHGNode, HGNode


@dataclass(frozen=True)
class FittedFunction:
    """What HG neurons compute.

    Attributes:
        function: its name.
        range: that it was fitted on, from … to.
        sub_neurons: of each neuron.
        stored_lines: of them, those whose parameters are not others', shifted by binary digits.
    """

    function: str
    range: list[float]
    sub_neurons: int
    stored_lines: int

    def __str__(self) -> str:
        low, high = self.range
        return f"{self.function} on [{low:.4g}, {high:.4g}], {self.sub_neurons} sub-neurons, {self.stored_lines} lines"


@dataclass(frozen=True)
class SiteReport:
    """The neurons at one site of a model, and what they did.

    Attributes:
        name: of the site.
        feeds: what its spikes go into.
        fan_out: weights that each spike meets.
        neurons: how many were run.
        outlier_share: of the neurons, those beyond the normal range.
        silent: share of the neurons without a spike.
        spikes_per_neuron: in a window of T steps.
        out_of_range: inputs outside the calibrated range.
        thresholds: by name; empty for HG neurons.
        fitted: the function of HG neurons; None for all others.
    """

    name: str
    feeds: str
    fan_out: int
    neurons: int
    outlier_share: float
    silent: float
    spikes_per_neuron: float
    out_of_range: int
    thresholds: dict[str, float]
    fitted: FittedFunction | None = None

    def to_dict(self) -> dict[str, Any]:
        """The site's entry in las_report.json, which has its name as key."""
        entry = asdict(self)
        thresholds, fitted = entry.pop("thresholds"), entry.pop("fitted")
        del entry["name"]
        return entry | thresholds | (fitted or {})

    def row(self) -> tuple[str, ...]:
        """Cells of a table: site, feeds, spikes per neuron, thresholds or function, inputs out of range."""
        feeds = f"weights × {self.fan_out}" if self.feeds == "weights" else self.feeds
        thresholds = ", ".join(f"{name} {value:.4g}" for name, value in self.thresholds.items())
        fitted = "" if self.fitted is None else str(self.fitted)
        neurons = "; ".join(text for text in (fitted, thresholds) if text)
        return self.name, feeds, f"{self.spikes_per_neuron:.2f}", neurons, str(self.out_of_range)


def site_report(name: str, counts: SiteSpikes) -> SiteReport:
    """What a monitor counted at a site.

    Args:
        name: of the site.
        counts: of a `SpikeMonitor`.
    """
    node, fitted, thresholds = counts.site.node, None, {}
    if isinstance(node, HGNode | CodingHGNode):
        fitted = FittedFunction(node.function.name, [node.low, node.high], node.sub_neurons, node.stored_lines)
    if not isinstance(node, HGNode):
        thresholds = {name: float(value.detach().max()) for name, value in node.named_parameters()}
    return SiteReport(
        name=name,
        feeds=counts.site.feeds,
        fan_out=counts.site.fan_out,
        neurons=counts.neurons,
        outlier_share=counts.outlier_share,
        silent=counts.trains.silent,
        spikes_per_neuron=counts.spikes_per_neuron,
        out_of_range=counts.out_of_range,
        thresholds=thresholds,
        fitted=fitted,
    )
