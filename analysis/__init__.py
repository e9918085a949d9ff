"""Seeing what a converted model does: its spikes, what they would cost, and pictures of them."""

from las_sj.analysis.auditing.audit import Audit, AuditRow, audit
from las_sj.analysis.energies.costs import EnergyCosts
from las_sj.analysis.energies.energy import EnergyReport, EnergyRow, energy_report
from las_sj.analysis.plots.cores import plot_cores
from las_sj.analysis.plots.differences import plot_differences
from las_sj.analysis.plots.energy_bars import plot_energy
from las_sj.analysis.plots.firing_rate import plot_firing_rate
from las_sj.analysis.plots.hg_fit import plot_hg_fit
from las_sj.analysis.plots.histogram import plot_activation_histogram
from las_sj.analysis.plots.membrane import plot_membrane
from las_sj.analysis.plots.pareto import plot_pareto
from las_sj.analysis.plots.raster import plot_raster
from las_sj.analysis.plots.steps import plot_steps
from las_sj.analysis.spikes.network import Network, Population, describe_network
from las_sj.analysis.spikes.site_spikes import SiteSpikes
from las_sj.analysis.spikes.spike_monitor import SpikeMonitor
from las_sj.analysis.spikes.train_sample import TrainFileError, Trains, TrainSample, load_trains
from las_sj.analysis.tables import format_cell, markdown_table

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
    "plot_cores",
    "plot_differences",
    "plot_energy",
    "plot_firing_rate",
    "plot_hg_fit",
    "plot_membrane",
    "plot_pareto",
    "plot_raster",
    "plot_steps",
]
