"""Models that are converted by operations are trained: losses from labels, and gradients."""

from typing import Any

import generating_models
import pytest
import torch
from generating_models import MODELS, ann, batch_of
from torch import Tensor, nn

import las_sj


def loss_of(model: Any) -> Tensor:
    """That of the next tokens, from labels."""
    batch = batch_of(model)
    loss: Tensor = model(**batch, labels=batch["input_ids"]).loss
    return loss


def gradient_of(model: nn.Module, loss: Tensor) -> Tensor:
    """Of all weights that are no thresholds, in a row."""
    weights = [p for name, p in model.named_parameters() if p.requires_grad and "spiking" not in name]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(weights, found, strict=True)]
    )


@pytest.mark.parametrize("name", list(MODELS))
def test_loss_and_gradients_are_about_those_of_the_ann(name: str) -> None:
    exact = ann(name, torch.float32)
    expected = loss_of(exact)
    snn = generating_models.spiking(name, torch.float32)
    las_sj.set_execution(snn, "accumulated")
    loss = loss_of(snn)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
    found, of_ann = gradient_of(snn, loss), gradient_of(exact, expected)
    assert float((found - of_ann).norm()) < 0.02 * float(of_ann.norm())


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"recurrent_gemma"}))
def test_gradients_flow_through_time(name: str) -> None:
    gradients = {}
    exact, snn = ann(name, torch.float32), generating_models.spiking(name, torch.float32)
    las_sj.set_execution(snn, "temporal")
    for kind, model in (("ann", exact), ("snn", snn)):
        gradients[kind] = gradient_of(model, model(**batch_of(model)).logits.square().mean())
    assert float((gradients["snn"] - gradients["ann"]).norm()) < 0.02 * float(gradients["ann"].norm())


def test_a_function_with_a_gradient_of_its_own_has_none_in_time() -> None:
    """Its backward method would see the shares of single time steps."""
    snn = generating_models.spiking("recurrent_gemma", torch.float32)
    las_sj.set_execution(snn, "temporal")
    loss = snn(**batch_of(snn)).logits.square().mean()
    assert loss.isfinite()
    with pytest.raises(las_sj.UnsupportedModelError, match="no spiking form of sqrt in time with a gradient of its"):
        loss.backward()


def test_labels_in_time_are_refused_by_name() -> None:
    snn = generating_models.spiking("qwen3_moe", torch.float32)
    las_sj.set_execution(snn, "temporal")
    with pytest.raises(NotImplementedError, match="cannot compute a loss from labels"):
        loss_of(snn)


class InPlace(nn.Module):
    """It writes over what it has multiplied, as modelling code does with the weights of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.first(x).softmax(-1) * 1.0
        weights /= weights.sum(-1, keepdim=True) + 1.0
        weights *= self.second(x)
        return weights


@pytest.mark.parametrize("execution", ["temporal", "accumulated"])
def test_gradients_of_what_is_written_over(execution: str) -> None:
    torch.manual_seed(0)
    exact, snn = InPlace(), InPlace()
    snn.load_state_dict(exact.state_dict())
    las_sj.convert(snn, calibration=[{"x": torch.randn(4, 8)} for _ in range(8)])
    las_sj.set_execution(snn, execution)
    x = torch.randn(2, 8).clamp(-1.5, 1.5)
    found, expected = (gradient_of(model, model(x=x).square().sum()) for model in (snn, exact))
    assert float((found - expected).norm()) < 0.01 * float(expected.norm())


class UsesALoss(nn.Module):
    """A loss amid the network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(nn.functional.mse_loss(self.first(x), x, reduction="none"))


def test_a_loss_amid_the_network_is_refused() -> None:
    with pytest.raises(las_sj.UnsupportedModelError, match="no spiking form of mse_loss in time"):
        las_sj.convert(UsesALoss(), calibration=[{"x": torch.randn(4, 8)} for _ in range(4)])
