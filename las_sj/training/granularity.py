"""What a network of rate codes is calibrated by, and what its config says of it."""

from typing import Any

from transformers import PreTrainedModel

from las_sj.fas_config import FASConfig
from las_sj.models.rate_coded.network import shapes_of_calibrated


def settings_of(model: PreTrainedModel) -> FASConfig:
    """The settings of a network that is to be calibrated.

    Raises:
        ValueError: the model is no network of rate codes, or one of another method than FAS.
    """
    entry: Any = getattr(model.config, "quantization_config", None)
    settings = getattr(entry, "settings", None)
    if not isinstance(settings, FASConfig) or settings.fully_spiking:
        raise ValueError(f"{type(model).__name__} is no network of rate codes: call las_sj.convert with a FASConfig")
    if settings.method != "fas":
        raise ValueError(
            f"the network is one of {settings.method}, which has no calibration: convert it again with "
            "FASConfig(method='fas')"
        )
    return settings


def keep_granularity(model: PreTrainedModel) -> None:
    """Have the model's config say what shape its thresholds have, after a calibration."""
    entry: Any = model.config.quantization_config
    entry.settings = settings_of(model).calibrated_as(shapes_of_calibrated(model))
