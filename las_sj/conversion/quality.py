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
from las_sj.conversion.decoder_inputs import needs_decoder_inputs
from las_sj.data.batches import Batch, mask_of, to_device
from las_sj.data.text import is_language_model
from las_sj.models.heads import classifies_inputs, transcribes_frames

# Entries of configurations: tokens in whose place images, videos and sounds stand.
PLACES = ("image_token_id", "image_token_index", "video_token_id", "audio_token_id", "audio_token_index")


@dataclass
class Quality:
    """What the two models made of the same tokens.

    Attributes:
        tokens: predictions (language models) or rows of the output (others) compared.
        ann_perplexity, snn_perplexity: of next-token prediction; None where the model has none.
        kl: mean KL(ANN ‖ SNN) of the distributions that are predicted, nats; None where there are none.
        top1_agreement: share of predictions with the same most likely token or class; None likewise.
        relative_error: ‖SNN − ANN‖/‖ANN‖ of the first output (logits or hidden states), padding excluded.
        predicts: "token", or "class" of an image or a sound, or "token of a frame" of speech.
    """

    tokens: int
    ann_perplexity: float | None
    snn_perplexity: float | None
    kl: float | None
    top1_agreement: float | None
    relative_error: float
    predicts: str = "token"

    def to_dict(self) -> dict[str, Any]:
        """The entry `quality` of las_report.json."""
        entry = asdict(self)
        ann, snn = entry.pop("ann_perplexity"), entry.pop("snn_perplexity")
        return {"ann": {"perplexity": ann}, "snn": {"perplexity": snn}, **entry}


class _Sums:
    """Running sums over batches, fp64."""

    def __init__(self, predicts: str | None) -> None:
        self.predicts = predicts
        self.squared_error = self.squared_norm = self.ann_loss = self.snn_loss = self.kl = 0.0
        self.agreements = self.predictions = self.tokens = 0

    def add_outputs(self, ann: Tensor, snn: Tensor) -> None:
        """First outputs [N, C] of both models, without padding."""
        self.squared_error += float((snn - ann).double().square().sum())
        self.squared_norm += float(ann.double().square().sum())
        self.tokens += len(ann)

    def add_predictions(self, ann: Tensor, snn: Tensor, targets: Tensor | None = None) -> None:
        """Logits [N, V] of both, and the tokens that followed, [N]; fp64, since divergences near 1e-9 are real."""
        ann_log, snn_log = F.log_softmax(ann.double(), -1), F.log_softmax(snn.double(), -1)
        if targets is not None:
            self.ann_loss += float(F.nll_loss(ann_log, targets, reduction="sum"))
            self.snn_loss += float(F.nll_loss(snn_log, targets, reduction="sum"))
        self.kl += float(F.kl_div(snn_log, ann_log, reduction="sum", log_target=True))
        self.agreements += int((ann.argmax(-1) == snn.argmax(-1)).sum())
        self.predictions += len(ann)

    def quality(self) -> Quality:
        """Means of what was added."""
        error = math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0
        if not self.predictions:
            return Quality(self.tokens, None, None, None, None, error)
        agreeing = self.kl / self.predictions, self.agreements / self.predictions, error
        if self.predicts not in (None, "token"):
            return Quality(self.predictions, None, None, *agreeing, predicts=self.predicts)
        ann, snn = (math.exp(loss / self.predictions) for loss in (self.ann_loss, self.snn_loss))
        return Quality(self.predictions, ann, snn, *agreeing)


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
    predicts = predicted_by(ann)
    sums, monitor = _Sums(predicts), SpikeMonitor(snn)
    for batch in tqdm(batches, total=total, desc="comparing", unit="batch", leave=False):
        arguments = to_device(batch, input_device(ann))
        ann_output = ann(**arguments)[0]
        with monitor:
            snn_output = snn(**arguments)[0]
        mask = mask_of(arguments, ann_output)
        if mask is None:
            mask = torch.ones(ann_output.shape[:-1], dtype=torch.bool, device=ann_output.device)
        sums.add_outputs(ann_output[mask], snn_output[mask])
        if predicts == "token":
            predicted, targets = _targets(ann, arguments, mask)
            sums.add_predictions(ann_output[:, :-1][predicted], snn_output[:, :-1][predicted], targets)
        elif predicts is not None:
            sums.add_predictions(ann_output[mask], snn_output[mask])
    return sums.quality(), monitor


def predicted_by(model: PreTrainedModel) -> str | None:
    """What the outputs of a model predict, as `Quality.predicts` says it; None of one whose outputs predict nothing."""
    if is_language_model(model) or (model.can_generate() and needs_decoder_inputs(model)):
        return "token"
    return "class" if classifies_inputs(model) else "token of a frame" if transcribes_frames(model) else None


def _targets(model: PreTrainedModel, batch: Batch, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions are followed by a token of the text, bool [B, S − 1], and these tokens, [N].

    Places of images and sounds among the tokens are not predicted.
    """
    ids = batch["decoder_input_ids" if "decoder_input_ids" in batch else "input_ids"]
    predicted = mask[:, :-1] & mask[:, 1:]
    for name in PLACES:
        token = getattr(model.config, name, None)
        if isinstance(token, int):
            predicted = predicted & (ids[:, 1:] != token)
    return predicted, ids[:, 1:][predicted]
