"""Seeing what a converted model does: its spikes, what they would cost, and pictures of them."""

from las_sj.analysis.audit import Audit, AuditRow, audit
from las_sj.analysis.costs import EnergyCosts
from las_sj.analysis.differences import plot_differences
from las_sj.analysis.energy import EnergyReport, EnergyRow, energy_report
from las_sj.analysis.energy_bars import plot_energy
from las_sj.analysis.firing_rate import plot_firing_rate
from las_sj.analysis.hg_fit import plot_hg_fit
from las_sj.analysis.histogram import plot_activation_histogram
from las_sj.analysis.membrane import plot_membrane
from las_sj.analysis.network import Network, Population, describe_network
from las_sj.analysis.raster import plot_raster
from las_sj.analysis.site_spikes import SiteSpikes
from las_sj.analysis.spike_monitor import SpikeMonitor
from las_sj.analysis.tables import format_cell, markdown_table
from las_sj.analysis.train_sample import TrainFileError, Trains, TrainSample, load_trains

__all__ = [
    "Audit",
    "AuditRow",
    "EnergyCosts",
    "EnergyReport",
    "EnergyRow",
    "Network",
    "Population",
    "SiteSpikes",
    "SpikeMonitor",
    "TrainFileError",
    "TrainSample",
    "Trains",
    "audit",
    "describe_network",
    "energy_report",
    "format_cell",
    "load_trains",
    "markdown_table",
    "plot_activation_histogram",
    "plot_differences",
    "plot_energy",
    "plot_firing_rate",
    "plot_hg_fit",
    "plot_membrane",
    "plot_raster",
]
