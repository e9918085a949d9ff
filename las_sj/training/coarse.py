"""Coarse calibration of FAS: a threshold and first potential for each layer, or channel, found by a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.models.execution import execution_of
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import CalibratedIFNode
from las_sj.training.alignment import aligned, currents_of, evaluating, mask_of_tokens, unpadded

ALPHAS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
BETAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
UNCHANGED = (1.0, 0.5)


@dataclass(frozen=True)
class CoarseChoice:
    """What was chosen for one site.

    Attributes:
        site: its name.
        alpha: Θ/θ; the mean over channels.
        beta: β; likewise.
        before, after: E of the site, with α = 1 and β = ½ and with what was chosen; earlier sites are calibrated.
    """

    site: str
    alpha: float
    beta: float
    before: float
    after: float


def coarse_calibrate(
    model: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    *,
    per_channel: bool = False,
) -> list[CoarseChoice]:
    """Choose Θ = α·θ and β of each site, in the order of the model, to bring its values to the ANN's.

    Each site is given what the network has there with all sites before it calibrated. α = 1 with β = ½ is among the
    choices, so that E of the site that is being fitted never grows on these batches, nor that of a channel.

    Args:
        model: a network of rate codes whose nodes are those of FAS or QCFS; calibrated in place.
        batches: keyword arguments of calls.
        alphas, betas: what is tried.
        per_channel: whether each channel has a choice of its own.

    Returns:
        A choice for each site.

    Raises:
        ValueError: there are no batches, or a choice is not finite and positive.
    """
    if not batches:
        raise ValueError("calibration needs at least one batch")
    pairs = _pairs(alphas, betas)
    choices = []
    with evaluating(model), torch.no_grad():
        teachers = [aligned(model, batch).ann for batch in batches]
        for name, site in tqdm([*named_activations(model)], desc="coarse calibration", unit="site", leave=False):
            given = [currents_of(model, site, batch) for batch in batches]
            masks = [mask_of_tokens(batch) for batch in batches]
            wanted = [teacher[name] for teacher in teachers]
            errors = torch.stack([_errors(model, site, pair, given, wanted, masks) for pair in pairs])
            if not per_channel:
                errors = errors.mean(1, keepdim=True)
            best = errors.argmin(0)  # the first of equals, which is the one nearest to unchanged
            alpha, beta = torch.tensor(pairs, dtype=torch.float64, device=best.device)[best].unbind(1)
            calibrate_site(site, *_chosen(site, alpha, beta))
            means = (float(value.mean()) for value in (alpha, beta, errors[0], errors.amin(0)))
            choices.append(CoarseChoice(name, *means))
    return choices


def _pairs(alphas: Sequence[float], betas: Sequence[float]) -> list[tuple[float, float]]:
    """All choices, those nearest to unchanged first."""
    if not all(0 < alpha < float("inf") for alpha in alphas):
        raise ValueError(f"alphas must be finite and positive, got {[*alphas]}")
    if not all(abs(beta) < float("inf") for beta in betas):
        raise ValueError(f"betas must be finite, got {[*betas]}")
    pairs = {UNCHANGED, *((float(alpha), float(beta)) for alpha in alphas for beta in betas)}
    return sorted(pairs, key=lambda pair: (abs(pair[0] - 1) + abs(pair[1] - 0.5), pair))


def _chosen(site: RateCodedActivation, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Θ and β of choices [1] or [C], for the whole site or each channel."""
    theta = site.theta.detach()
    if len(alpha) == 1:
        alpha, beta = alpha[0], beta[0]
    scaled = theta * alpha.to(theta.dtype)
    return scaled, beta.to(theta.dtype).expand(scaled.shape)


def _errors(
    model: PreTrainedModel,
    site: RateCodedActivation,
    pair: tuple[float, float],
    given: Sequence[Tensor],
    wanted: Sequence[Tensor],
    masks: Sequence[Tensor | None],
) -> Tensor:
    """E of each channel of a site with a choice, over all batches: [C]."""
    lanes = execution_of(model).lanes
    assert lanes is not None
    theta = site.theta.detach()
    node = CalibratedIFNode(theta * pair[0], torch.full_like(theta, pair[1])).to(given[0].device)
    total: Tensor | float = 0.0
    weight = 0
    for x_seq, teacher, mask in zip(given, wanted, masks, strict=True):
        value = node.window_of(x_seq)[lanes.before :].mean(0) * node.scale_at(x_seq[0])
        squares = unpadded(value - teacher, mask).float().square().flatten(0, -2)
        total = total + squares.sum(0, dtype=torch.float64)
        weight += len(squares)
    assert isinstance(total, Tensor)
    return total / weight


def calibrate_site(site: RateCodedActivation, theta: Tensor, beta: Tensor) -> None:
    """Give a site calibrated neurons; its ANN keeps its threshold.

    Args:
        site: of a network of rate codes.
        theta: Θ: a scalar, [C] or [S, C].
        beta: β, in the shape of Θ.
    """
    if site.quantizer is None:
        site.quantizer = site.quantiser_of_node()
    node = CalibratedIFNode(theta.detach(), beta.detach(), step_mode=site.node.step_mode).to(theta.device)
    node.time_steps, node.is_windowed = site.node.time_steps, True
    site.node = node
