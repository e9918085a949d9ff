"""Calibration: stream statistics of every site over the given data, then set thresholds and ranges."""

import math
from collections.abc import Iterable, Mapping
from types import TracebackType

import torch
from torch import Tensor, nn
from tqdm import tqdm

from las_sj.checkpoint.placement import input_device
from las_sj.config import LASConfig
from las_sj.conversion.continuation import calibrate_continuation
from las_sj.data.batches import Batch, to_device
from las_sj.models import Execution, execution_of, named_sites
from las_sj.models.layers.site import Site
from las_sj.neurons import CodingHGNode, HGNode, ThresholdNode
from las_sj.neurons.seen_values import SeenValues


class CalibrationError(ValueError):
    """The calibration data or the model's activations cannot be used; the message says why."""


class _SiteStatistics:
    """What one site has received, padding excluded; constant in memory."""

    def __init__(self, name: str, execution: Execution, sites: Mapping[str, Site]) -> None:
        self.name = name
        self.execution = execution
        self.sites = sites
        self.seen = sites[name].node.statistics()

    def __call__(self, v: Tensor) -> None:
        mask = self.execution.mask_of(v)
        try:
            self.seen.add(v if mask is None else v[mask])
        except ValueError as error:
            raise CalibrationError(f"{error} at {self.name}: {self._cause()}") from None

    def _cause(self) -> str:
        """What was seen where a function has no finite value, if that is the reason."""
        for name, site in self.sites.items():
            node, observer = site.node, site.node.observer
            if (
                not isinstance(node, HGNode | CodingHGNode)
                or not isinstance(observer, _SiteStatistics)
                or observer.seen.nothing
            ):
                continue
            low = observer.seen.low
            if not math.isfinite(float(node.exact(torch.tensor(low)))):
                return f"{name} was given {low:.3g}, for which {node.function.name} is not finite"
        return "check the model's weights"


class Calibration:
    """Within this context, calls of a converted model run uncoded and are observed; its end sets the neurons.

        with Calibration(model, config):
            for batch in batches:
                model(**batch)

    Raises:
        CalibrationError: no call was made, or an activation is infinite or NaN.
    """

    def __init__(self, model: nn.Module, config: LASConfig) -> None:
        self.model = model
        self.config = config
        self.sites = dict(named_sites(model))
        execution = execution_of(model)
        self.statistics = {name: _SiteStatistics(name, execution, self.sites) for name in self.sites}

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
        if all(statistics.seen.nothing for statistics in self.statistics.values()):
            raise CalibrationError("the calibration data is empty: give at least one batch with a token")
        for name, site in tqdm(self.sites.items(), desc="setting thresholds", unit="site", leave=False):
            try:
                site.node.calibrate(self.statistics[name].seen, self.config.headroom, site.upper_bound)
                _coarsen(site, self.statistics[name].seen, self.config.last_step)
            except ValueError as error:
                raise CalibrationError(f"{error} at {name}: give a batch that has such values first") from None
        execution_of(self.model).ranges.start_again()


def _coarsen(site: Site, seen: SeenValues, last_step: float | None) -> None:
    """Have a population that feeds weights, whose spikes cost most, leave out last steps that nobody asked for."""
    if last_step is not None and site.feeds == "weights" and isinstance(site.node, ThresholdNode):
        site.node.coarsen(last_step * seen.mean_magnitude)


def checked_batch(batch: Batch | None) -> Batch:
    """A batch, or a CalibrationError where there is none, it is empty, or no mapping."""
    if batch is not None and not isinstance(batch, Mapping):
        raise CalibrationError(f"batches must be dicts of the model's keyword arguments, got {type(batch).__name__}")
    if not batch or any(isinstance(value, Tensor) and value.numel() == 0 for value in batch.values()):
        raise CalibrationError("the calibration data is empty: give at least one batch with a token")
    return batch


def calibrate(model: nn.Module, config: LASConfig, batches: Iterable[Batch]) -> int:
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
            batch = to_device(batch, device)
            output = model(**batch)
            calibrate_continuation(model, batch, output)
            count += 1
    return count
