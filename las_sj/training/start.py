"""What a training begins with: a plain model, or the rate-coded checkpoint of the step before."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from las_sj.checkpoint.entry import METHOD, LASQuantizationConfig
from las_sj.checkpoint.loading import load_converted, read_config
from las_sj.checkpoint.weights import check_finite, load_weights
from las_sj.conversion.convert import convert
from las_sj.data.batches import Batch
from las_sj.fas_config import FASConfig
from las_sj.models.rate_coded.network import named_activations
from las_sj.training.errors import TrainingError
from las_sj.training.thresholds import take_thresholds


@dataclass(frozen=True)
class Start:
    """What a training begins with.

    Attributes:
        name: hub name or folder.
        config: of the model, without what it says of a conversion.
        settings: of the conversion; None of a plain model.
        architecture: class that was saved.
    """

    name: str
    config: PretrainedConfig
    settings: FASConfig | None
    architecture: str | None

    @property
    def is_classifier(self) -> bool:
        """Whether the checkpoint has a head that classifies sequences."""
        return str(self.architecture).endswith("ForSequenceClassification")

    def load(self, model_class: Any, device: str, **options: Any) -> PreTrainedModel:
        """The plain model of a class, fp32, with a new head where the checkpoint has none.

        Raises:
            OSError: weights are missing or broken.
        """
        config = copy.deepcopy(self.config)
        for name, value in options.items():
            setattr(config, name, value)
        model: PreTrainedModel = load_weights(
            model_class,
            self.name,
            new_head=True,
            of_converted=self.settings is not None,
            dtype=torch.float32,
            config=config,
        )
        check_finite(model, self.name)
        return model.to(device).eval()  # type: ignore[arg-type]

    def settings_with(self, given: dict[str, Any]) -> FASConfig:
        """The settings of the conversion.

        Args:
            given: fields of a `FASConfig` that are asked for.

        Raises:
            TrainingError: they are not what the checkpoint was trained with.
        """
        if self.settings is None:
            return FASConfig(**given)
        own = self.settings
        if given.get("levels", own.levels) != own.levels:
            raise TrainingError(f"{self.name} is trained with {own.levels} levels: leave out --levels")
        asked = {name: given[name] for name in ("percentile", "seed") if name in given}
        return replace(own.at(given.get("time_steps", own.time_steps)), **asked)

    def thresholds(self) -> dict[str, Tensor]:
        """Thresholds of a rate-coded checkpoint by site, all of which is checked as where it is loaded; {} of others.

        Raises:
            OSError, ValueError: weights, thresholds and config.json do not belong together, or are broken.
        """
        if self.settings is None:
            return {}
        model, _ = load_converted(Path(self.name))
        return {name: activation.theta.detach() for name, activation in named_activations(model)}

    def convert(
        self, model: PreTrainedModel, config: FASConfig, batches: Iterable[Batch], thresholds: Mapping[str, Tensor]
    ) -> list[str]:
        """Make a plain model a network of rate codes.

        Thresholds are percentiles of the data. A checkpoint's replace those of sites that it has, once, here.

        Args:
            model: as `load` returns.
            config: the settings.
            batches: what thresholds follow from.
            thresholds: as `thresholds` returns.

        Returns:
            Names of the sites that have thresholds of the checkpoint.
        """
        convert(model, config, batches)
        return take_thresholds(model, thresholds, self.name) if thresholds else []


def read_start(name: str) -> Start:
    """What a training may begin with, by its configuration.

    Args:
        name: hub name or folder, plain or rate-coded.

    Raises:
        TrainingError: the model is quantised in another way, calibrated, or fully spiking.
        OSError, ValueError: there is no model.
    """
    config = read_config(name)
    entry = getattr(config, "quantization_config", None)
    named: list[Any] = config.architectures or [None]
    if entry is None:
        return Start(name, config, None, named[0])
    if dict(entry).get("quant_method") != METHOD:
        raise TrainingError(f"{name} is quantised ({dict(entry).get('quant_method')}): give the original model")
    known = LASQuantizationConfig(**dict(entry))
    if not isinstance(known.settings, FASConfig) or known.settings.fully_spiking:
        raise TrainingError(f"{name} is no checkpoint of rate codes alone: give the original model, or that of a step")
    if any("calibrated" in activation for activation in known.activations.values()):
        raise TrainingError(f"{name} is calibrated (step 3), after which nothing is trained: give the one before")
    if not Path(name).is_dir():
        raise TrainingError(f"{name} is rate-coded: download it, and give its folder")
    config.quantization_config = None
    del config.quantization_config
    config._attn_implementation = None
    return Start(name, config, known.settings, named[0])
