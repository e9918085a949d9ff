"""Statistics of the values that a population receives in calibration, constant in memory."""

import torch
from torch import Tensor

from las_sj.neurons.thresholds import BINS, bin_centres, magnitude_histogram


class SeenValues:
    """Histogram and extremes of membrane potentials.

    Attributes:
        histogram: of magnitudes, int64 [BINS], as `thresholds.magnitude_histogram` has it.
        low, high: the extremes; low > high where nothing was seen.
        largest: the largest magnitude; 0 where nothing was seen.
    """

    def __init__(self) -> None:
        self.histogram = torch.zeros(BINS, dtype=torch.int64)
        self.low, self.high, self.largest = float("inf"), float("-inf"), 0.0

    def add(self, v: Tensor) -> None:
        """Take the values of one window, [...].

        Raises:
            ValueError: a value is infinite or NaN.
        """
        if v.numel() == 0:
            return
        low, high = (float(extreme) for extreme in torch.aminmax(v))
        self.histogram += magnitude_histogram(v)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.largest = max(self.largest, abs(low), abs(high))

    @property
    def mean_magnitude(self) -> float:
        """Mean of |v|, by the histogram; 0 where nothing was seen."""
        bins = torch.nonzero(self.histogram).squeeze(1)
        counts = self.histogram[bins].double()
        return float((counts * bin_centres()[bins]).sum() / counts.sum().clamp(min=1))

    @property
    def nothing(self) -> bool:
        """Whether no value was seen."""
        return self.low > self.high
