"""Saving and loading of converted models through transformers' quantizer interface."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from las_sj.config import LASConfig
from las_sj.models import Coverage, named_sites, swap_modules
from las_sj.models.attention import NAME
from las_sj.models.swap import stayed_analog
from las_sj.neurons import HGNode

METHOD = "las"
FORMAT_VERSION = 2  # 1: the model was not marked with its attention implementation


@register_quantization_config(METHOD)
class LASQuantizationConfig(QuantizationConfigMixin):
    """What config.json says of a converted model: `LASConfig`, the format version, the ranges of HG neurons.

    Raises:
        ValueError: the file was written by a newer version, or a setting is out of its range.
    """

    def __init__(
        self,
        format_version: int = FORMAT_VERSION,
        hg_ranges: dict[str, list[float]] | None = None,
        quant_method: str = METHOD,
        **settings: Any,
    ) -> None:
        if not isinstance(format_version, int) or not 1 <= format_version <= FORMAT_VERSION:
            raise ValueError(
                f"the checkpoint has format version {format_version!r}, this las_sj reads 1…{FORMAT_VERSION}: upgrade"
            )
        self.quant_method = quant_method  # type: ignore[assignment]
        self.format_version = format_version
        self.hg_ranges = hg_ranges or {}
        self.settings = LASConfig.from_dict(settings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "quant_method": METHOD,
            "format_version": FORMAT_VERSION,
            **self.settings.to_dict(),
            "hg_ranges": self.hg_ranges,
        }


def mark(model: PreTrainedModel) -> None:
    """Have config.json name the attention implementation: transformers refuses to load the model where it is unknown,
    that is, where las_sj was not imported, and would otherwise ignore a quantisation method that it does not know."""
    model.config.__dict__["_attn_implementation"] = NAME


def quantization_config_of(model: PreTrainedModel, config: LASConfig) -> LASQuantizationConfig:
    """The entry for config.json of a converted, calibrated model."""
    ranges = {
        name: [site.node.low, site.node.high] for name, site in named_sites(model) if isinstance(site.node, HGNode)
    }
    return LASQuantizationConfig(hg_ranges=ranges, **config.to_dict())


@register_quantizer(METHOD)
class LASQuantizer(HfQuantizer):
    """Swaps the modules of an empty model before transformers loads weights, thresholds and tables into it."""

    requires_calibration = True
    quantization_config: LASQuantizationConfig

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        entry = self.quantization_config
        prefix = f"{model.base_model_prefix}."  # of names in the model that was saved, if this is the one inside of it
        patterns = [name for pattern in entry.settings.keep_analog for name in (pattern, pattern.removeprefix(prefix))]
        coverage = swap_modules(model, entry.settings.factory(), patterns, all_must_match=False)
        for name, site in named_sites(model):
            if isinstance(site.node, HGNode):
                bounds = entry.hg_ranges.get(name) or entry.hg_ranges.get(prefix + name)
                if bounds is None:
                    raise ValueError(f"config.json has no range of {name} in hg_ranges: the checkpoint is incomplete")
                site.node.set_range(*bounds)
        model.__dict__["las_coverage"] = coverage
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        from las_sj.convert_model import set_execution

        for site_name, site in named_sites(model):
            for name, tensor in site.node.state_dict(keep_vars=True).items():
                if not _was_loaded(tensor) or (name.startswith("theta") and not _is_threshold(tensor)):
                    raise ValueError(
                        f"{site_name}.{name} is missing from the checkpoint or broken: load the class that was saved, "
                        "or convert the model again"
                    )
                tensor.requires_grad_(False)
        spiking = model.__dict__["las_coverage"].spiking
        model.__dict__["las_coverage"] = Coverage(spiking, dict(stayed_analog(model)))  # weights are tied by now
        mark(model)
        set_execution(model, "temporal")
        return model

    def is_serializable(self, **kwargs: Any) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    @property
    def is_qat_trainable(self) -> bool:
        return True


def _was_loaded(tensor: torch.Tensor) -> bool:
    """transformers fills what a checkpoint lacks with garbage, and marks the rest."""
    return tensor.is_meta or getattr(tensor, "_is_hf_initialized", False)


def _is_threshold(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or bool((torch.isfinite(tensor) & (tensor > 0)).all())
