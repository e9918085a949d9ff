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
from las_sj.training.alignment import activations_of_ann, currents_of, evaluating, mask_of_tokens, unpadded
from las_sj.training.granularity import keep_granularity, settings_of

ALPHAS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
CHANNEL_ALPHAS = (0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.5, *ALPHAS)  # many channels stay far below θ
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
    alphas: Sequence[float] | None = None,
    betas: Sequence[float] = BETAS,
    *,
    per_channel: bool = False,
) -> list[CoarseChoice]:
    """Choose Θ = α·θ and β of each site, in the order of the model, to bring its values to the ANN's.

    Each site is given what the network has there with all sites before it calibrated. α = 1 with β = ½ is among the
    choices: on these batches E never grows at the site that is being fitted, nor at a channel of it.

    Args:
        model: a network of rate codes of FAS; calibrated in place. Its config says what was.
        batches: keyword arguments of calls.
        alphas: what is tried; `ALPHAS`, or `CHANNEL_ALPHAS` for channels, if None.
        betas: likewise.
        per_channel: whether each channel has a choice of its own.

    Returns:
        A choice for each site.

    Raises:
        ValueError: there are no batches, a choice is not finite and positive, or the network is of another method.
    """
    settings_of(model)  # raises where there is nothing to calibrate
    if not batches:
        raise ValueError("calibration needs at least one batch")
    grid = _Grid(alphas or (CHANNEL_ALPHAS if per_channel else ALPHAS), betas, per_channel)
    choices = []
    with evaluating(model), torch.no_grad():
        teachers = [activations_of_ann(model, batch) for batch in batches]
        for name, site in tqdm([*named_activations(model)], desc="coarse calibration", unit="site", leave=False):
            currents = [currents_of(model, site, batch) for batch in batches]
            masks = [mask_of_tokens(batch) for batch in batches]
            case = _Case(model, site, currents, [teacher[name] for teacher in teachers], masks)
            best = grid.best(case)
            calibrate_site(site, *case.calibrated(best.alpha, best.beta))
            means = (float(value.mean()) for value in (best.alpha, best.beta, best.before, best.error))
            choices.append(CoarseChoice(name, *means))
    keep_granularity(model)
    return choices


@dataclass
class _Case:
    """A site, what it is given, and what is wanted of it."""

    model: PreTrainedModel
    site: RateCodedActivation
    currents: Sequence[Tensor]
    wanted: Sequence[Tensor]
    masks: Sequence[Tensor | None]

    def calibrated(self, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Θ and β of choices, [] for the whole site or [C] for each channel."""
        theta = self.site.theta.detach()
        scaled = theta * alpha.to(theta.dtype)
        return scaled, beta.to(theta.dtype).expand(scaled.shape)

    def error(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """E of each channel over all batches, [C]."""
        lanes = execution_of(self.model).lanes
        assert lanes is not None
        node = CalibratedIFNode(*self.calibrated(alpha, beta)).to(self.currents[0].device)
        squares = []
        for x_seq, teacher, mask in zip(self.currents, self.wanted, self.masks, strict=True):
            value = node.window_of(x_seq)[lanes.before :].mean(0) * node.scale_at(x_seq[0])
            squares.append(unpadded(value - teacher, mask).float().square().flatten(0, -2))
        return torch.cat(squares).mean(0, dtype=torch.float64)


@dataclass
class _Best:
    """The best choice so far, [] for the whole site or [C] for each channel, and its errors."""

    alpha: Tensor
    beta: Tensor
    before: Tensor
    error: Tensor

    def challenge(self, alpha: Tensor, beta: Tensor, error: Tensor) -> None:
        """Take another choice where it is better."""
        is_better = error < self.error
        self.alpha = torch.where(is_better, alpha, self.alpha)
        self.beta = torch.where(is_better, beta, self.beta)
        self.error = torch.where(is_better, error, self.error)


class _Grid:
    """What is tried: each α with β = ½, each β with the best of them, and each α again with the best β.

    Args:
        alphas, betas: the grid.
        per_channel: whether each channel has a choice of its own.

    Raises:
        ValueError: a choice is not finite and positive.
    """

    def __init__(self, alphas: Sequence[float], betas: Sequence[float], per_channel: bool) -> None:
        if not all(0 < alpha < float("inf") for alpha in alphas):
            raise ValueError(f"alphas must be finite and positive, got {[*alphas]}")
        if not all(abs(beta) < float("inf") for beta in betas):
            raise ValueError(f"betas must be finite, got {[*betas]}")
        self.alphas = sorted(alphas, key=lambda alpha: abs(alpha - UNCHANGED[0]))  # the first of equals is kept
        self.betas = sorted(betas, key=lambda beta: abs(beta - UNCHANGED[1]))
        self.per_channel = per_channel

    def best(self, case: _Case) -> _Best:
        """The choice whose error is least; no change where nothing is better."""
        alpha, beta = torch.tensor(UNCHANGED, dtype=torch.float64, device=case.wanted[0].device)
        error = self._error(case, alpha, beta)
        best = _Best(alpha.expand(error.shape), beta.expand(error.shape), error, error)
        for values, is_alpha in ((self.alphas, True), (self.betas, False), (self.alphas, True)):
            alpha, beta = best.alpha, best.beta
            for value in values:
                tried = torch.full_like(alpha, value)
                choice = (tried, beta) if is_alpha else (alpha, tried)
                best.challenge(*choice, self._error(case, *choice))
        return best

    def _error(self, case: _Case, alpha: Tensor, beta: Tensor) -> Tensor:
        errors = case.error(alpha, beta)
        return errors if self.per_channel else errors.mean()


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
