"""Seeing what a converted model does: spikes and pictures of them."""

from las_sj.analysis.raster import plot_raster
from las_sj.analysis.site_spikes import SiteSpikes
from las_sj.analysis.spike_monitor import SpikeMonitor

__all__ = ["SiteSpikes", "SpikeMonitor", "plot_raster"]
