"""Saving and loading of converted models through transformers' quantizer interface."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from las_sj.checkpoint.activations_entry import activations_of, check_fed, put_activations
from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.checkpoint.entry import FORMAT_VERSION, METHOD, LASQuantizationConfig
from las_sj.checkpoint.node_digests import check_node, digests_of
from las_sj.checkpoint.operations_entry import operations_in
from las_sj.checkpoint.placement import is_stored
from las_sj.checkpoint.weight_names import keep_neurons_apart
from las_sj.config import LASConfig
from las_sj.fas_config import FASConfig
from las_sj.models import Coverage, execution_of, named_sites, set_execution, swap_modules
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import NAME
from las_sj.models.operations.attention import NAME as OPERATIONS
from las_sj.models.operations.model import entry_of, restore
from las_sj.models.rate_coded.attention import NAME as LANES
from las_sj.models.site_codes import codes_of, give_codes
from las_sj.models.swap import keep_coverage, stayed_analog
from las_sj.neurons import CodingHGNode, HGNode
from las_sj.neurons.rate_coded import QCFSWindowNode, RateCodedNode


def mark(model: PreTrainedModel) -> None:
    """Have config.json name the attention implementation: transformers refuses to load the model where it is unknown,
    that is, where las_sj was not imported, and would otherwise ignore a quantisation method that it does not know."""
    execution = execution_of(model)
    implementation = NAME if execution.operated is None else OPERATIONS
    if execution.lanes is None:
        model.config.__dict__["_attn_implementation"] = implementation
    else:
        model.set_attn_implementation(LANES)
    keep_neurons_apart(model)
    # Which is told when the model is saved.
    model.__dict__["hf_quantizer"] = LASQuantizer(model.config.quantization_config)


def quantization_config_of(model: PreTrainedModel, config: LASConfig | FASConfig) -> LASQuantizationConfig:
    """The entry for config.json of a converted, calibrated model."""
    islands = [name for name, module in model.named_modules() if isinstance(module, AnalogIsland)]
    operations = None if execution_of(model).operated is None else entry_of(model)
    return LASQuantizationConfig(
        FORMAT_VERSION,
        _ranges_of(model),
        islands,
        digests_of(model),
        operations,
        activations_of(model),
        **config.to_dict(),
    )


def _ranges_of(model: PreTrainedModel) -> dict[str, list[float]]:
    nodes = {name: site.node for name, site in named_sites(model)}
    return {name: [node.low, node.high] for name, node in nodes.items() if isinstance(node, HGNode | CodingHGNode)}


@register_quantizer(METHOD)
class LASQuantizer(HfQuantizer):
    """Swaps the modules of an empty model before transformers loads weights, thresholds and tables into it."""

    requires_calibration = True
    quantization_config: LASQuantizationConfig

    def update_attn_implementation(self, config: PretrainedConfig) -> PretrainedConfig:
        """What transformers calls before it makes an empty model: that looks its attention modules up by the name of
        the implementation that it had, where las_sj's runs in its place; None has each part take its default."""
        operations = self.quantization_config.operations
        if operations is not None:
            config._attn_implementation = "eager" if operations["attention"] == "eager" else None
        return config

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        entry = self.quantization_config
        prefix = f"{model.base_model_prefix}."  # of names in the model that was saved, if this is the one inside of it
        names = {name for name, _ in model.named_modules()}
        settings = entry.settings.las if isinstance(entry.settings, FASConfig) else entry.settings
        fed = put_activations(model, entry.activations, entry.settings, prefix)
        if isinstance(entry.settings, FASConfig) and not entry.settings.fully_spiking:
            return model
        islands = settings.keep_analog if entry.islands is None else entry.islands
        islands = [name if name in names else name.removeprefix(prefix) for name in islands]
        if entry.operations is None:
            swap_modules(model, settings.factory(), islands, all_must_match=False, fed=fed)
            check_fed(model, fed, entry.node_digests or {}, prefix)
        else:
            operations = operations_in(model, entry.operations, prefix)
            restore(model, settings.factory(), operations, [name for name in islands if name in names])
        _check_codes(model, give_codes(model, settings.site_codes, prefix), entry.node_digests or {}, prefix)
        for name, site in named_sites(model):
            if isinstance(site.node, HGNode | CodingHGNode):
                bounds = entry.hg_ranges.get(name) or entry.hg_ranges.get(prefix + name)
                if bounds is None:
                    raise BrokenCheckpointError(
                        f"config.json has no range of {name} in hg_ranges: load the class that was saved, or convert "
                        "the model again"
                    )
                site.node.set_range(*bounds)
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        nodes = {site.node for _, site in named_sites(model)}
        for name, module, tensor in _tensors_of(model):
            if not _was_loaded(module, name.rpartition(".")[2], tensor):
                raise BrokenCheckpointError(
                    f"{name} is missing from the checkpoint or broken: load the class that was saved, or convert the "
                    "model again"
                )
            if module in nodes and not isinstance(module, RateCodedNode | QCFSWindowNode):
                tensor.requires_grad_(False)
        entry, prefix = self.quantization_config, f"{model.base_model_prefix}."
        for site_name, site in named_sites(model):
            check_node(site_name, site.node, entry.node_digests, prefix, entry.digests_codes)
        if not entry.digests_codes:
            entry.node_digests = digests_of(model)  # config.json is written in the newest format
        if entry.operations is None and execution_of(model).lanes is None:
            spiking = execution_of(model).coverage.spiking
            keep_coverage(model, Coverage(spiking, dict(stayed_analog(model))))  # weights are tied by now
        mark(model)
        _run_as_converted(model)
        set_execution(model, "temporal")
        return model

    def get_state_dict_and_metadata(self, model: PreTrainedModel) -> tuple[None, dict[str, str]]:
        """What transformers asks for before it saves a model: the entry for config.json is brought up to date, since
        thresholds may have been trained or set, ranges and codes too; a base model has names of its own."""
        entry = model.config.quantization_config
        entry.hg_ranges, entry.node_digests = _ranges_of(model), digests_of(model)
        entry.activations = activations_of(model)
        if isinstance(entry.settings, LASConfig):
            entry.settings = replace(entry.settings, site_codes=codes_of(model, entry.settings.code))
        return None, {}

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


def _check_codes(model: PreTrainedModel, untaken: list[str], digests: Mapping[str, str], prefix: str) -> None:
    """Raise a BrokenCheckpointError where codes are of no population that was saved; others are outside of `model`.

    Args:
        model: with neurons.
        untaken: names of codes that no population of it took.
        digests: of the model that was saved, which tell its populations.
        prefix: of names in that model, where `model` is inside of it.
    """
    names = {name for name, _ in named_sites(model)}
    for name in untaken:
        if name not in digests or name in names or name.removeprefix(prefix) in names:
            raise BrokenCheckpointError(
                f"site_codes of config.json name {name}, which is no population with such a code: the checkpoint is "
                "damaged, convert the model again"
            )


def _tensors_of(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module, torch.Tensor]]:
    """The tensors that a checkpoint holds, with their names and modules: some are made by modelling code each time."""
    made_by_code = model._keys_to_ignore_on_save or ()
    for module_name, module in model.named_modules():
        for name, tensor in module.state_dict(keep_vars=True).items():
            whole = f"{module_name}.{name}" if module_name else name
            if "." not in name and whole not in made_by_code:
                yield whole, module, tensor


def _run_as_converted(model: PreTrainedModel) -> None:
    """Modelling code goes another way where weights are quantised, as transformers says of what a quantiser loads."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            vars(module.config).pop("_is_quantized", None)


def _was_loaded(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> bool:
    """transformers fills what a checkpoint lacks with garbage, and marks the rest; what is offloaded must be stored."""
    return is_stored(module, name) if tensor.is_meta else getattr(tensor, "_is_hf_initialized", False)
