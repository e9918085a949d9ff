"""How far outputs of a spiking network are from those of the ANN, and gradients whose squares say what moves them.

Of a model that predicts tokens or classes it is KL(ANN ‖ SNN) of a prediction, in nats: to first order the relative
rise of perplexity. Of other models it is the squared relative error of the output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.conversion.quality import predicted_by
from las_sj.data.batches import Batch, without_padding
from las_sj.models.heads import classifies_sequences

DRAWS = 2  # of labels, or of signs
FEW_CLASSES = 8
OTHER_PROBLEMS = ("regression", "multi_label_classification")


def predicts(model: PreTrainedModel) -> bool:
    """Whether outputs of a model are logits of one distribution: those of a regression, or hidden states, are not."""
    if getattr(model.config, "problem_type", None) in OTHER_PROBLEMS:
        return False
    return predicted_by(model) is not None or (classifies_sequences(model) and (model.config.num_labels or 0) > 1)


def rows_of(batch: Batch, output: Tensor) -> Tensor:
    """What a model made of each token or input of a batch, padding excluded, [N, C]."""
    rows = without_padding(batch, output)
    return rows.reshape(-1, rows.shape[-1])


def divergences(ann: Tensor, snn: Tensor, as_logits: bool) -> Tensor:
    """The divergence of each row, fp64 [N].

    Args:
        ann, snn: outputs [N, C].
        as_logits: whether they are logits; otherwise errors count, relative to the ANN's mean square.
    """
    ann, snn = ann.double(), snn.double()
    if as_logits and ann.shape[-1] > 1:
        ann_log, snn_log = F.log_softmax(ann, -1), F.log_softmax(snn, -1)
        return F.kl_div(snn_log, ann_log, reduction="none", log_target=True).sum(-1)
    return (snn - ann).square().sum(-1) / ann.square().sum(-1).mean().clamp(min=torch.finfo(torch.float64).tiny)


def scores_of(outputs: Tensor, as_logits: bool, generator: torch.Generator, independent: bool) -> list[Tensor]:
    """Scores whose squared gradients, summed, times a small squared error are the divergence that it causes.

    Of a distribution they are log-likelihoods: of labels drawn from it or, where rows are independent and classes few,
    of each class, by its probability (the Fisher information, halved). Of other outputs they are products with random
    signs.

    Args:
        outputs: of the ANN, [N, C], with a graph.
        as_logits: as for `divergences`.
        generator: draws labels or signs.
        independent: whether no row depends on what another one does, so that rows have gradients of their own.
    """
    if not as_logits or outputs.shape[-1] == 1:
        size = outputs.detach().double().square().sum(-1).mean().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        signs = [torch.randint(0, 2, outputs.shape, generator=generator).to(outputs) * 2 - 1 for _ in range(DRAWS)]
        return [(outputs * sign).sum() / float(size * DRAWS**0.5) for sign in signs]
    log_shares = F.log_softmax(outputs.float(), -1)
    shares = log_shares.detach().exp()
    if independent and outputs.shape[-1] <= FEW_CLASSES:
        return [(log_shares[:, label] * (shares[:, label] / 2).sqrt()).sum() for label in range(outputs.shape[-1])]
    labels = torch.multinomial(shares.cpu().double(), DRAWS, replacement=True, generator=generator).to(outputs.device)
    return [log_shares.gather(1, drawn.unsqueeze(1)).sum() / (2 * DRAWS) ** 0.5 for drawn in labels.unbind(1)]
