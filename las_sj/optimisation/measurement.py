"""What a network loses, and what it costs, on given batches: measured, not predicted."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.checkpoint.placement import input_device
from las_sj.conversion.structure import bypassed_coding
from las_sj.data.batches import Batch, mask_of, to_device
from las_sj.data.text import is_language_model
from las_sj.memory import release_freed_memory
from las_sj.models import running
from las_sj.optimisation.divergence import divergences, predicts, rows_of

INTERVAL = 1.96  # standard errors


@dataclass(frozen=True)
class Measurement:
    """Of one network.

    Attributes:
        loss: mean divergence of a prediction, KL(ANN ‖ SNN) in nats; of other outputs their relative error.
        loss_interval: half of its 95 % interval.
        perplexity_change: of a language model, in percent; else None.
        perplexity_interval: half of its 95 % interval, over paired tokens.
        ratios: energy of the SNN over that of the ANN, by accounting.
        spikes_per_neuron: as of a `SpikeMonitor`.
        predictions: how many were compared.
    """

    loss: float
    loss_interval: float
    perplexity_change: float | None
    perplexity_interval: float | None
    ratios: dict[str, float]
    spikes_per_neuron: float
    predictions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Measurement":
        """The inverse of `to_dict`."""
        return cls(**values)


@torch.no_grad()
def measure(model: PreTrainedModel, batches: Iterable[Batch], description: str = "measuring") -> Measurement:
    """Compare a converted model with itself uncoded, which is the ANN, and count its spikes.

    Args:
        model: a converted model.
        batches: dicts of keyword arguments.
        description: of the progress bar.
    """
    found: list[Tensor] = []
    changes: list[Tensor] = []
    monitor = SpikeMonitor(model)
    as_logits = predicts(model)
    with running(model, "accumulated"):
        for batch in tqdm(batches, desc=description, unit="batch", leave=False):
            batch = to_device(batch, input_device(model))
            with bypassed_coding(model):
                ann = model(**batch)[0]
            with monitor:
                snn = model(**batch)[0]
            found.append(divergences(rows_of(batch, ann), rows_of(batch, snn), as_logits))
            if is_language_model(model):
                changes.append(_next_token_changes(batch, ann, snn))
            release_freed_memory()
    energy = energy_report(monitor)
    loss, loss_interval = _mean(torch.cat(found))
    if not as_logits and loss > 0:  # squares
        loss, loss_interval = loss**0.5, loss_interval / (2 * loss**0.5)
    paired = torch.cat(changes) if changes else torch.empty(0)
    change, change_interval = _mean(paired) if len(paired) else (None, None)  # one token alone predicts nothing next
    return Measurement(
        loss,
        loss_interval,
        None if change is None else 100 * math.expm1(change),
        None if change is None or change_interval is None else 100 * math.exp(change) * change_interval,
        {name: energy.ratio(name) for name in energy.accountings},
        monitor.spikes_per_neuron,
        sum(map(len, found)),
    )


def _next_token_changes(batch: Batch, ann: Tensor, snn: Tensor) -> Tensor:
    """By how many nats the loss of each next token rises, fp64 [N]."""
    ids, mask = batch["input_ids"], mask_of(batch, ann)
    targets = ids[:, 1:] if mask is None else ids[:, 1:].masked_fill(~(mask[:, 1:] & mask[:, :-1]), -100)
    targets = targets.reshape(-1)
    losses = [
        F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), targets, reduction="none") for logits in (ann, snn)
    ]
    return (losses[1] - losses[0])[targets != -100]


def _mean(values: Tensor) -> tuple[float, float]:
    """The mean of values [N], and half of its 95 % interval."""
    spread = float(values.std()) if len(values) > 1 else 0.0
    return float(values.mean()), INTERVAL * spread / len(values) ** 0.5
