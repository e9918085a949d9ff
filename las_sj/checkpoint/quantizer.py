"""Saving and loading of converted models through transformers' quantizer interface."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from las_sj.checkpoint.placement import is_stored
from las_sj.config import LASConfig
from las_sj.models import Coverage, execution_of, named_sites, set_execution, swap_modules
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import NAME
from las_sj.models.swap import keep_coverage, stayed_analog
from las_sj.neurons import HGNode

METHOD = "las"
FORMAT_VERSION = 2  # 1: the model was not marked with its attention implementation


@register_quantization_config(METHOD)
class LASQuantizationConfig(QuantizationConfigMixin):
    """What config.json says of a converted model: `LASConfig`, the format version, the ranges of HG neurons, and the
    names of the modules that stayed analog by request (None in format 1, which has only the patterns).

    Raises:
        ValueError: the file was written by a newer version, or a setting is out of its range.
    """

    def __init__(
        self,
        format_version: int = FORMAT_VERSION,
        hg_ranges: dict[str, list[float]] | None = None,
        islands: list[str] | None = None,
        quant_method: str = METHOD,
        **settings: Any,
    ) -> None:
        if type(format_version) is not int or format_version < 1:
            raise ValueError(
                f"the checkpoint has format version {format_version!r}, which no las_sj wrote: it is broken"
            )
        if format_version > FORMAT_VERSION:
            raise ValueError(
                f"the checkpoint has format version {format_version}, this las_sj reads 1…{FORMAT_VERSION}: upgrade it"
            )
        for name, bounds in (hg_ranges or {}).items():
            if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
                raise ValueError(f"the range of {name} must be two numbers, got {bounds!r}: the checkpoint is broken")
        self.quant_method = quant_method  # type: ignore[assignment]
        self.format_version = format_version
        self.hg_ranges = hg_ranges or {}
        self.islands = islands
        self.settings = LASConfig.from_dict(settings)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """The entry that config.json holds.

        Raises:
            ValueError: it has no format version.
        """
        if "format_version" not in config_dict:
            raise ValueError("the checkpoint has no format version: it is broken")
        return super().from_dict(config_dict, return_unused_kwargs, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The entry for config.json."""
        return {
            "quant_method": METHOD,
            "format_version": FORMAT_VERSION,
            **self.settings.to_dict(),
            "hg_ranges": self.hg_ranges,
            "islands": self.islands,
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
    islands = [name for name, module in model.named_modules() if isinstance(module, AnalogIsland)]
    return LASQuantizationConfig(FORMAT_VERSION, ranges, islands, **config.to_dict())


@register_quantizer(METHOD)
class LASQuantizer(HfQuantizer):
    """Swaps the modules of an empty model before transformers loads weights, thresholds and tables into it."""

    requires_calibration = True
    quantization_config: LASQuantizationConfig

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        entry = self.quantization_config
        prefix = f"{model.base_model_prefix}."  # of names in the model that was saved, if this is the one inside of it
        names = {name for name, _ in model.named_modules()}
        islands = entry.settings.keep_analog if entry.islands is None else entry.islands
        islands = [name if name in names else name.removeprefix(prefix) for name in islands]
        swap_modules(model, entry.settings.factory(), islands, all_must_match=False)
        for name, site in named_sites(model):
            if isinstance(site.node, HGNode):
                bounds = entry.hg_ranges.get(name) or entry.hg_ranges.get(prefix + name)
                if bounds is None:
                    raise ValueError(
                        f"config.json has no range of {name} in hg_ranges: load the class that was saved, or convert "
                        "the model again"
                    )
                site.node.set_range(*bounds)
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        nodes = {site.node for _, site in named_sites(model)}
        for module_name, module in model.named_modules():
            for name, tensor in module.state_dict(keep_vars=True).items():
                if "." in name:
                    continue
                loaded = _was_loaded(module, name, tensor)
                if not loaded or (module in nodes and name.startswith("theta") and not _is_threshold(tensor)):
                    raise ValueError(
                        f"{module_name}.{name} is missing from the checkpoint or broken: load the class that was "
                        "saved, or convert the model again"
                    )
                if module in nodes:
                    tensor.requires_grad_(False)
        spiking = execution_of(model).coverage.spiking
        keep_coverage(model, Coverage(spiking, dict(stayed_analog(model))))  # weights are tied by now
        mark(model)
        set_execution(model, "temporal")
        return model

    def is_serializable(self, **kwargs: Any) -> bool:
        """Whether the model can be saved: always."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained: always, with straight-through gradients."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Whether the Trainer may train the quantised weights: they are the ANN's."""
        return True


def _was_loaded(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> bool:
    """transformers fills what a checkpoint lacks with garbage, and marks the rest; what is offloaded must be stored."""
    return is_stored(module, name) if tensor.is_meta else getattr(tensor, "_is_hf_initialized", False)


def _is_threshold(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or bool((torch.isfinite(tensor) & (tensor > 0)).all())
