"""Everything that can be found out about a converted model by running it on a little data."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor, audit, describe_network, energy_report
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, shortened, to_device
from las_sj.data.output_folder import CONVERSION
from las_sj.models import execution_of, running, set_execution
from las_sj.reports.equal_loss import fewest_bits
from las_sj.reports.hardware_section import read_hardware
from las_sj.reports.model_report import ModelReport, optimization_rows

AUDIT_TOKENS = 16


@torch.no_grad()
def examine(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    folder: Path,
    source: str,
    costs: str = "fp32",
    equal_loss: bool = True,
) -> ModelReport:
    """Run a converted model and collect what a report says.

    Args:
        model: the converted model; left in the temporal execution.
        batches: dicts of keyword arguments.
        folder: of the model.
        source: where the batches came from.
        costs: name of a preset of energies.
        equal_loss: whether to look for the bits of an ANN that loses as much; takes several more runs.
    """
    batches = [to_device(batch, input_device(model)) for batch in batches]
    set_execution(model, "temporal")
    with running(model, execution_of(model).counted_in), SpikeMonitor(model) as monitor:
        for batch in tqdm(batches, desc="counting spikes", unit="batch", leave=False):
            model(**batch)
    with tqdm(total=2, desc="comparing with quantised ANNs", leave=False) as progress:
        bits = fewest_bits(model, batches[:1]) if equal_loss else None
        progress.update()
        progress.set_description("auditing")
        found = audit(model, shortened(batches[0], AUDIT_TOKENS))
        progress.update()
    settings = model.config.quantization_config.settings.to_dict()
    energy = energy_report(monitor, costs, bits)
    network = describe_network(monitor, found.stages)
    return ModelReport(
        folder, source, settings, read_conversion(folder), monitor, network, energy, found, read_hardware(folder)
    )


def read_conversion(folder: Path) -> dict[str, Any]:
    """What the conversion wrote about itself; {} where that is not there."""
    try:
        found = json.loads((folder / CONVERSION.report).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and _is_conversion(found) else {}


def _is_conversion(found: dict[str, Any]) -> bool:
    """Whether the parts that a report reads have the shape that `conversion_report` gives them."""
    try:
        quality, coverage = found["quality"], found["coverage"]
        _ = quality["relative_error"], quality["ann"]["perplexity"], quality["snn"]["perplexity"]
        _ = optimization_rows(found.get("optimization"))
        return isinstance(coverage["spiking"], dict) and isinstance(coverage["analog"], dict)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
