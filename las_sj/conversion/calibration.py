"""Calibration: stream statistics of every site over the given data, then set thresholds and ranges."""

from collections.abc import Iterable
from types import TracebackType

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.config import LASConfig
from las_sj.data.batches import Batch, to_device
from las_sj.models import Execution, Site, execution_of, named_sites
from las_sj.neurons import HGNode, MTNode, OATNode
from las_sj.neurons.thresholds import BINS, magnitude_histogram, solve_thresholds


class CalibrationError(ValueError):
    """The calibration data or the model's activations cannot be used; the message says why."""


class _SiteStatistics:
    """Histogram and extremes of what one site receives, padding excluded; constant in memory."""

    def __init__(self, name: str, execution: Execution) -> None:
        self.name = name
        self.execution = execution
        self.histogram = torch.zeros(BINS, dtype=torch.int64)
        self.low, self.high, self.largest = float("inf"), float("-inf"), 0.0

    def __call__(self, v: Tensor) -> None:
        mask = self.execution.mask_of(v)
        if mask is not None:
            v = v[mask]
        if v.numel() == 0:
            return
        low, high = (float(extreme) for extreme in torch.aminmax(v))
        try:
            self.histogram += magnitude_histogram(v)
        except ValueError as error:
            raise CalibrationError(f"{error} at {self.name}: check the model's weights") from None
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.largest = max(self.largest, abs(low), abs(high))


class Calibration:
    """Within this context, calls of a converted model run uncoded and are observed; its end sets the neurons.

        with Calibration(model, config):
            for batch in batches:
                model(**batch)

    Raises:
        CalibrationError: no call was made, or an activation is infinite or NaN.
    """

    def __init__(self, model: PreTrainedModel, config: LASConfig) -> None:
        self.model = model
        self.config = config
        self.sites = dict(named_sites(model))
        execution = execution_of(model)
        self.statistics = {name: _SiteStatistics(name, execution) for name in self.sites}

    def __enter__(self) -> "Calibration":
        for name, site in self.sites.items():
            site.node.bypass = True
            site.node.observer = self.statistics[name]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for site in self.sites.values():
            site.node.bypass = False
            site.node.observer = None
        if kind is not None:
            return
        if not any(int(statistics.histogram.sum()) for statistics in self.statistics.values()):
            raise CalibrationError("the calibration data is empty: give at least one batch with a token")
        for name, site in tqdm(self.sites.items(), desc="setting thresholds", unit="site", leave=False):
            _set_neurons(site, self.statistics[name], self.config)


def _set_neurons(site: Site, statistics: _SiteStatistics, config: LASConfig) -> None:
    node, largest = site.node, statistics.largest
    if isinstance(node, HGNode):
        _set_range(node, statistics, config.headroom)
        return
    limit = site.upper_bound or largest * config.headroom or 1.0
    normal, outlier = solve_thresholds(statistics.histogram, limit, config.code, config.outlier_aware)
    if isinstance(node, OATNode):
        node.theta_normal.data.fill_(normal)
        node.theta_outlier.data.fill_(outlier)
    elif isinstance(node, MTNode):
        node.theta.data.fill_(outlier)


def _set_range(node: HGNode, statistics: _SiteStatistics, headroom: float) -> None:
    low, high = statistics.low, statistics.high
    if low > high:  # never reached by a call
        return
    if node.function.name in ("gelu", "gelu_tanh", "gelu_10", "quick_gelu", "silu", "relu", "tanh", "exp"):
        node.set_range(low * headroom, high * headroom)
        return
    powers = statistics.largest * headroom**2
    node.set_range(max(low, 2.0**-60) / headroom**2 if low > 0 else None, min(powers or 1.0, 2.0**60))


def calibrate(model: PreTrainedModel, config: LASConfig, batches: Iterable[Batch]) -> int:
    """Calibrate a converted model.

    Args:
        model: a converted model.
        config: the settings that it was converted with.
        batches: dicts of the model's keyword arguments.

    Returns:
        The number of batches.

    Raises:
        CalibrationError: as `Calibration` does.
    """
    device = input_device(model)
    count = 0
    with torch.no_grad(), Calibration(model, config):
        for batch in tqdm(batches, desc="calibrating", unit="batch", leave=False):
            model(**to_device(batch, device))
            count += 1
    return count
