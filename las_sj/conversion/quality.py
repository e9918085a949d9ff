"""Compare a converted model with its original on the same batches."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device
from las_sj.data.text import is_language_model


@dataclass
class Quality:
    """What the two models made of the same tokens.

    Attributes:
        tokens: predictions (language models) or tokens (others) compared.
        ann_perplexity, snn_perplexity: of next-token prediction; None where the model has none.
        kl: mean KL(ANN ‖ SNN) of the next-token distributions, nats; None likewise.
        top1_agreement: share of positions with the same most likely token; None likewise.
        relative_error: ‖SNN − ANN‖/‖ANN‖ of the first output (logits or hidden states), padding excluded.
    """

    tokens: int
    ann_perplexity: float | None
    snn_perplexity: float | None
    kl: float | None
    top1_agreement: float | None
    relative_error: float

    def to_dict(self) -> dict[str, Any]:
        """The entry `quality` of las_report.json."""
        entry = asdict(self)
        ann, snn = entry.pop("ann_perplexity"), entry.pop("snn_perplexity")
        return {"ann": {"perplexity": ann}, "snn": {"perplexity": snn}, **entry}


class _Sums:
    """Running sums over batches, fp64."""

    def __init__(self) -> None:
        self.squared_error = self.squared_norm = self.ann_loss = self.snn_loss = self.kl = 0.0
        self.agreements = self.predictions = self.tokens = 0

    def add_outputs(self, ann: Tensor, snn: Tensor) -> None:
        """First outputs [N, C] of both models, without padding."""
        self.squared_error += float((snn - ann).double().square().sum())
        self.squared_norm += float(ann.double().square().sum())
        self.tokens += len(ann)

    def add_predictions(self, ann: Tensor, snn: Tensor, targets: Tensor) -> None:
        """Logits [N, V] of both, and the tokens that followed, [N]; fp64, since divergences near 1e-9 are real."""
        ann_log, snn_log = F.log_softmax(ann.double(), -1), F.log_softmax(snn.double(), -1)
        self.ann_loss += float(F.nll_loss(ann_log, targets, reduction="sum"))
        self.snn_loss += float(F.nll_loss(snn_log, targets, reduction="sum"))
        self.kl += float(F.kl_div(snn_log, ann_log, reduction="sum", log_target=True))
        self.agreements += int((ann.argmax(-1) == snn.argmax(-1)).sum())
        self.predictions += len(targets)

    def quality(self) -> Quality:
        """Means of what was added."""
        error = math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0
        if not self.predictions:
            return Quality(self.tokens, None, None, None, None, error)
        return Quality(
            self.predictions,
            math.exp(self.ann_loss / self.predictions),
            math.exp(self.snn_loss / self.predictions),
            self.kl / self.predictions,
            self.agreements / self.predictions,
            error,
        )


@torch.no_grad()
def compare(
    ann: PreTrainedModel, snn: PreTrainedModel, batches: Iterable[Batch], total: int | None = None
) -> tuple[Quality, SpikeMonitor]:
    """Run both models on the same batches.

    Args:
        ann: the original.
        snn: the converted model, in either execution.
        batches: dicts of keyword arguments; "attention_mask" marks padding.
        total: how many batches, for the progress bar.

    Returns:
        The comparison, and the spike counts of the SNN.
    """
    sums, monitor = _Sums(), SpikeMonitor(snn)
    predicts = is_language_model(ann)
    for batch in tqdm(batches, total=total, desc="comparing", unit="batch", leave=False):
        arguments = to_device(batch, input_device(ann))
        ann_output = ann(**arguments)[0]
        with monitor:
            snn_output = snn(**arguments)[0]
        mask = arguments.get("attention_mask")
        if mask is None or ann_output.dim() < 3:
            mask = torch.ones(ann_output.shape[:-1], dtype=torch.bool, device=ann_output.device)
        mask = mask.bool()
        sums.add_outputs(ann_output[mask], snn_output[mask])
        if predicts:
            predicted = mask[:, :-1] & mask[:, 1:]
            targets = arguments["input_ids"][:, 1:][predicted]
            sums.add_predictions(ann_output[:, :-1][predicted], snn_output[:, :-1][predicted], targets)
    return sums.quality(), monitor
