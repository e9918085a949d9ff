"""Fine calibration of FAS: thresholds and first potentials of all sites, trained end to end with weights frozen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.fas_config import GRANULARITIES
from las_sj.models.inputs import source_of
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import named_activations
from las_sj.training.alignment import (
    Aligned,
    activations_of_ann,
    aligned,
    evaluating,
    mask_of_tokens,
    mean_square,
)
from las_sj.training.coarse import calibrate_site
from las_sj.training.granularity import keep_granularity, settings_of


@dataclass(frozen=True)
class FineSettings:
    """How to calibrate finely.

    Args:
        steps: of the optimiser, each on one batch.
        learning_rate: of Θ and β; both are scaled by θ, so that it is a share of the threshold a step.
        alignment_weight: of the sum of all sites' errors, each in units of θ².
        kl_weight: of KL(ANN ‖ SNN) of the outputs; of their mean squared difference where they are no logits.
        per_token: whether KL is a mean over tokens; False sums over the tokens of a row, as released.
        granularity: "site", "channel" or "position"; that of the network's `FASConfig` if None.
        positions: tokens that thresholds are there for, with granularity "position".
        check_every: steps between evaluations on what was held out.
        seed: of the order of batches.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    steps: int = 160
    learning_rate: float = 1e-2
    alignment_weight: float = 10.0
    kl_weight: float = 1.0
    per_token: bool = True
    granularity: str | None = None
    positions: int | None = None
    check_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("check_every", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        for name in ("learning_rate", "alignment_weight", "kl_weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value!r}")
        if not self.alignment_weight and not self.kl_weight:
            raise ValueError("alignment_weight and kl_weight are both 0: there is nothing to calibrate for")
        if self.granularity not in (None, *GRANULARITIES):
            raise ValueError(f"granularity must be one of {', '.join(GRANULARITIES)}, got {self.granularity!r}")
        if (self.granularity == "position") != (self.positions is not None):
            raise ValueError("positions go with granularity 'position', and with no other")


@dataclass(frozen=True)
class FineResult:
    """What fine calibration came to.

    Attributes:
        losses: step by step, of the batch that the step was made on.
        held_out: (step, loss) on the batches that were held out; the best one is kept.
        best_step: whose thresholds were kept; 0 is where it began.
    """

    losses: list[float]
    held_out: list[tuple[int, float]]
    best_step: int


def fine_calibrate(
    model: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    settings: FineSettings | None = None,
) -> FineResult:
    """Train Θ and β of all sites at once, so that trains and outputs come to the ANN's.

        loss = Σ_l E_l/θ_l² + λ · KL(softmax(ANN) ‖ softmax(SNN))

    Weights and θ stay as they are, the model is in evaluation mode, and labels are not used. Thresholds are kept of the
    step that is best on what was held out; the beginning is one. The model's config says what was calibrated.

    Args:
        model: a network of rate codes, calibrated coarsely or not at all; changed in place.
        batches: keyword arguments of calls, to train on.
        held_out: the same, to choose the step by.
        settings: the defaults if None.

    Raises:
        ValueError: there are no batches, or none held out; the network is of another method, or is calibrated more
            finely.
    """
    settings = _settled(settings or FineSettings(), model)
    if not batches or not held_out:
        raise ValueError("fine calibration needs batches to train on, and others to choose by")
    sites = dict(named_activations(model))
    with evaluating(model):
        _widen(model, sites, batches[0], settings)
        keep_granularity(model)
        units = {p: _unit(site, p) for site in sites.values() for p in site.node.parameters(recurse=False)}
        parameters = [*units]
        groups = [{"params": [p], "lr": settings.learning_rate * unit} for p, unit in units.items()]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(1, settings.steps))
        order = torch.Generator().manual_seed(settings.seed)
        best, best_step = _copies(parameters), 0
        losses: list[float] = []
        checks = [(0, _loss_on(model, sites, held_out, settings))]
        for step in tqdm(range(1, settings.steps + 1), desc="fine calibration", unit="step", leave=False):
            batch = batches[int(torch.randint(len(batches), (1,), generator=order))]
            loss = _loss(sites, aligned(model, batch), batch, settings)
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
            decay.step()
            losses.append(float(loss.detach()))
            if step % settings.check_every == 0 or step == settings.steps:
                checks.append((step, _loss_on(model, sites, held_out, settings)))
                if checks[-1][1] < min(loss for _, loss in checks[:-1]):
                    best, best_step = _copies(parameters), step
        with torch.no_grad():
            for parameter, value in zip(parameters, best, strict=True):
                parameter.copy_(value)
                parameter.grad = None
    return FineResult(losses, checks, best_step)


def _settled(settings: FineSettings, model: PreTrainedModel) -> FineSettings:
    """Settings with the granularity of the network's config, where they leave it open."""
    granularity, positions = settings_of(model).planned
    return settings if settings.granularity else replace(settings, granularity=granularity, positions=positions)


def _unit(site: RateCodedActivation, parameter: nn.Parameter) -> float:
    """What a step is a share of: θ for thresholds, 1 for first potentials, which are in thresholds already."""
    return _threshold_of(site) if parameter is site.node.theta else 1.0


def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _loss(
    sites: Mapping[str, RateCodedActivation], seen: Aligned, batch: Mapping[str, Any], settings: FineSettings
) -> Tensor:
    mask = mask_of_tokens(batch)
    errors = seen.errors(mask)
    alignment = sum(error / _threshold_of(sites[name]) ** 2 for name, error in errors.items())
    if seen.of_logits:
        outputs = divergence(seen.ann_output, seen.snn_output, mask, settings.per_token)
    else:
        outputs = mean_square(seen.snn_output - seen.ann_output, mask)
    loss = settings.alignment_weight * alignment + settings.kl_weight * outputs
    assert isinstance(loss, Tensor)
    return loss


def _threshold_of(site: RateCodedActivation) -> float:
    """The mean threshold of a site's ANN."""
    return float(site.theta.detach().mean())


def divergence(ann: Tensor, snn: Tensor, mask: Tensor | None, per_token: bool) -> Tensor:
    """KL(softmax(ANN) ‖ softmax(SNN)) of outputs [B, S, V] or [B, V]; of one number each, the squared difference.

    Args:
        ann, snn: the outputs.
        mask: of tokens, bool [B, S].
        per_token: whether to divide by the number of tokens; otherwise by that of rows.
    """
    if ann.shape[-1] == 1:
        return F.mse_loss(snn.float(), ann.float())
    each = F.kl_div(
        F.log_softmax(snn.float(), -1), F.log_softmax(ann.float(), -1), reduction="none", log_target=True
    ).sum(-1)
    if mask is not None and each.shape == mask.shape:
        each = each * mask
        return each.sum() / (mask.sum() if per_token else len(each))
    return each.mean() if per_token else each.sum() / len(each)


@torch.no_grad()
def _loss_on(
    model: PreTrainedModel,
    sites: Mapping[str, RateCodedActivation],
    batches: Sequence[Mapping[str, Any]],
    settings: FineSettings,
) -> float:
    losses = [float(_loss(sites, aligned(model, batch), batch, settings)) for batch in batches]
    return sum(losses) / len(losses)


@torch.no_grad()
def _widen(
    model: PreTrainedModel,
    sites: Mapping[str, RateCodedActivation],
    batch: Mapping[str, Any],
    settings: FineSettings,
) -> None:
    """Give each site thresholds in the shape that is trained, with the values that they have."""
    tokens = source_of(dict(batch))
    shapes = {name: _shape(value, tokens, settings) for name, value in activations_of_ann(model, batch).items()}
    for name, site in sites.items():
        theta = site.node.theta
        beta = site.node.beta if isinstance(site.node.beta, Tensor) else torch.full_like(theta, site.node.beta)
        shape = shapes[name]
        if theta.dim() > len(shape):
            raise ValueError(f"{name} is calibrated more finely already: begin with the network before calibration")
        calibrate_site(site, theta.expand(shape), beta.expand(shape))


def _shape(value: Tensor, tokens: Tensor | None, settings: FineSettings) -> tuple[int, ...]:
    """Of the thresholds of a site with these values, [B, S, C] or [B·S, C], or [B, C] where it sees no positions."""
    if settings.granularity == "site":
        return ()
    in_one_row = tokens is not None and tokens.dim() > 1 and len(tokens) < len(value) == tokens.shape[:2].numel()
    if settings.positions is None or (value.dim() < 3 and not in_one_row):
        return (value.shape[-1],)
    return (settings.positions, value.shape[-1])
