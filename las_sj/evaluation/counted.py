"""Spikes and energy of a part of the batches, apart from the timed calls, which nobody watches."""

from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.memory import release_freed_memory
from las_sj.models import execution_of, running

COUNTED = 8


def spread_evenly(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Up to `COUNTED` of the batches."""
    return batches[:: -(-len(batches) // COUNTED)]


def costs_of(
    pair: Pair, batches: Sequence[Batch], journal: Journal, task: str, records: Sequence[Record]
) -> dict[str, Any]:
    """What a task cost, as fields of its `TaskResult`: seconds, spikes per neuron, energy.

    Args:
        pair: the models.
        batches: of the task.
        journal: keeps what was found.
        task: its name.
        records: of the batches, with the seconds of each.
    """
    spikes, energy = count_spikes(pair, batches, journal, task)
    seconds = {name: sum(record[name] for record in records) for name in ("ann_seconds", "snn_seconds")}
    return {**seconds, "spikes_per_neuron": spikes, "energy": energy}


@torch.no_grad()
def count_spikes(pair: Pair, batches: Sequence[Batch], journal: Journal, task: str) -> tuple[float, dict[str, float]]:
    """Spikes per neuron of the sites that feed weights, and energy SNN/ANN by accounting.

    Args:
        pair: the models.
        batches: of which some are run.
        journal: keeps what was found.
        task: its name.
    """
    chosen = spread_evenly(batches)

    def compute(_: int) -> dict[str, object]:
        execution = execution_of(pair.snn)
        counted = execution.name if execution.lanes is None else execution.counted_in
        with running(pair.snn, counted), SpikeMonitor(pair.snn) as monitor:
            for batch in tqdm(chosen, desc=f"{task}, spikes", unit="batch", leave=False):
                pair.snn(**to_device(batch, input_device(pair.snn)))
                release_freed_memory()
        energy = energy_report(monitor)
        ratios = {name: energy.ratio(name) for name in energy.accountings}
        return {"spikes_per_neuron": monitor.spikes_per_neuron, "energy": ratios}

    (record,) = journal.collect(f"{task}, spikes", [chosen], compute)
    return record["spikes_per_neuron"], record["energy"]
