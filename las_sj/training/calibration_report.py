"""What came of the calibration of FAS."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedModel

from las_sj.fas_config import FASConfig
from las_sj.models.rate_coded.network import named_activations
from las_sj.training.coarse import CoarseChoice
from las_sj.training.fine import FineResult, FineSettings
from las_sj.training.report import Quality, words_of


@dataclass(frozen=True)
class CalibrationReport:
    """What came of the calibration of FAS.

    Attributes:
        model: folder of the network.
        architecture: class of the model.
        config: settings of the network.
        data: what it was calibrated and measured on.
        settings: of the fine calibration.
        search: "channel", "site" or "none": what the coarse calibration searched for.
        coarse: what was chosen for each site; empty where nothing was searched for.
        fine: what the fine calibration came to; None where it was left out.
        before, after: what ANN and network do on held-out rows.
        sites: by name: θ, and the means of Θ and β.
        seconds: that it took.
    """

    model: str
    architecture: str
    config: FASConfig
    data: dict[str, Any]
    settings: FineSettings
    search: str
    coarse: Sequence[CoarseChoice]
    fine: FineResult | None
    before: Quality
    after: Quality
    sites: dict[str, dict[str, float]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The content of fas.json."""
        return {
            "step": "calibrate",
            "model": self.model,
            "architecture": self.architecture,
            "data": self.data,
            "settings": self.config.to_dict(),
            "calibration": asdict(self.settings),
            "search": self.search,
            "coarse": [asdict(choice) for choice in self.coarse],
            "fine": None if self.fine is None else asdict(self.fine),
            "quality": {"before": self.before, "after": self.after},
            "thresholds": self.sites,
            "seed": self.settings.seed,
            "seconds": self.seconds,
        }

    def summary(self) -> str:
        """Lines for the terminal."""
        lines = [f"calibrate of {self.architecture}: {len(self.sites)} sites in {self.seconds:.1f} s"]
        if self.fine is not None:
            first, best = self.fine.held_out[0][1], min(loss for _, loss in self.fine.held_out)
            lines.append(f"alignment loss on held-out batches {first:.4f} → {best:.4f} (step {self.fine.best_step})")
        steps = self.config.time_steps
        named = {
            f"quantised ANN (L = {self.config.levels})": self.after["quantised"],
            f"SNN, uncalibrated (T = {steps})": self.before["spiking"],
            f"SNN, calibrated (T = {steps})": self.after["spiking"],
        }
        return "\n".join([*lines, *(f"{name:31}  {words_of(found)}" for name, found in named.items())])


def sites_of(model: PreTrainedModel) -> dict[str, dict[str, float]]:
    """The threshold θ of each site's ANN, and the means of its neurons' Θ and β."""
    found = {}
    for name, activation in named_activations(model):
        beta = activation.node.beta
        found[name] = {
            "theta": float(activation.theta.detach().mean()),
            "calibrated_theta": float(activation.node.theta.detach().mean()),
            "beta": beta if isinstance(beta, float) else float(beta.detach().mean()),
        }
    return found
