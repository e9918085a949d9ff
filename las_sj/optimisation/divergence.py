"""How far outputs of a spiking network are from those of the ANN, and gradients whose squares say what moves them.

Of a model that predicts tokens or classes it is KL(ANN ‖ SNN) of a prediction, in nats: to first order the relative
rise of perplexity. Of other models it is the squared relative error of the output.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.conversion.quality import predicted_by
from las_sj.data.batches import Batch, without_padding


def predicts(model: PreTrainedModel) -> bool:
    """Whether outputs of a model are logits of a distribution: those of a regression, or hidden states, are not."""
    return predicted_by(model) is not None and getattr(model.config, "problem_type", None) != "regression"


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


def score_gradients(
    outputs: Tensor, wanted: Sequence[Tensor], as_logits: bool, generator: torch.Generator, keep_graph: bool
) -> list[Tensor]:
    """Gradients of which the mean square, times a small squared error, is the divergence that it causes.

    Of a distribution they are those of the log-likelihood of labels drawn from it (the Fisher information, halved);
    of other outputs, of their product with random signs.

    Args:
        outputs: of the ANN, [N, C], with a graph.
        wanted: what is differentiated by.
        as_logits: as for `divergences`.
        generator: draws labels or signs.
        keep_graph: whether the graph is needed again.

    Returns:
        One for each of `wanted`; zeros where outputs do not depend on it.
    """
    if as_logits and outputs.shape[-1] > 1:
        shares = F.softmax(outputs.detach().double(), -1).cpu()
        labels = torch.multinomial(shares, 1, generator=generator).squeeze(1).to(outputs.device)
        score = F.cross_entropy(outputs.float(), labels, reduction="sum") * 0.5**0.5
    else:
        signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs) * 2 - 1
        size = outputs.detach().double().square().sum(-1).mean().clamp(min=torch.finfo(torch.float64).tiny)
        score = (outputs * signs).sum() / float(size.sqrt())
    found = torch.autograd.grad(score, wanted, retain_graph=keep_graph, allow_unused=True)
    return [torch.zeros_like(x) if gradient is None else gradient for x, gradient in zip(wanted, found, strict=True)]
