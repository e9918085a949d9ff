"""How a call of a Hugging Face model becomes a temporal run: hooks that repeat its inputs and sum its outputs.

The outermost forward method of the model or of a model inside it repeats the inputs T times along the batch, t-major;
everything in between works on [T·B, ...]; at its end the outputs are summed over T.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from las_sj.models.call import Call, begin, innermost
from las_sj.models.checkpointing import FindsItsCall
from las_sj.models.encoded_images import repeat_encoded, sum_encoded
from las_sj.models.execution import EXECUTION, Execution, execution_of
from las_sj.models.heads import classifies_sequences
from las_sj.models.inputs import OF_IMAGES, TARGETS, arguments_of, is_value, padding_of, source_of, takes_tokens
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import NAME
from las_sj.models.layers.linear import SpikingReadout
from las_sj.models.layers.spiking_layer import SpikingLayer, join
from las_sj.models.reclassed import reclass
from las_sj.models.registry import Family
from las_sj.neurons import watching

_ENCODED_IMAGES = "mm_encoder_outputs"
_IMAGE_OUTPUTS = ("image_outputs", "video_outputs")
_NOT_REPEATED = (*TARGETS, "logits_to_keep")


def attach(model: PreTrainedModel, execution: Execution, family: Family) -> None:
    """Make the forward methods of `model` and of the models inside it run in `execution`, islands excepted."""
    setattr(model, EXECUTION, execution)
    execution.layers = [
        (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], name)
        for name, layer in model.named_modules()
        if isinstance(layer, SpikingLayer)
    ]
    execution.ranges.watch(
        (f"{name}.{site.name}", site.node)
        for name, layer in model.named_modules()
        if isinstance(layer, SpikingLayer)
        for site in layer.sites()
        if site.upper_bound is None  # what exceeds a known bound is an error of the code, whatever calibration saw
    )
    mixins = {layer.config_mixin for layer in model.modules() if isinstance(layer, SpikingLayer)}
    for mixin in mixins:
        if mixin is not None:
            reclass(model.config, mixin)
    for module in list(model.modules()):
        kind = type(module).__name__
        if kind in family.batch_state:
            join(module, family.batch_state[kind], execution)
        if isinstance(module, GradientCheckpointingLayer):
            join(module, FindsItsCall, execution)
    _add_hooks(model, execution)


def _add_hooks(model: PreTrainedModel, execution: Execution) -> None:
    analog = {id(part) for island in model.modules() if isinstance(island, AnalogIsland) for part in island.modules()}
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config is not model.config:
            module.__dict__["save_pretrained"] = _refuse_to_save
        if isinstance(module, PreTrainedModel) and id(module) not in analog:
            if module is not model:
                module.__dict__[EXECUTION] = execution
            module.register_forward_pre_hook(_begin_call, with_kwargs=True)
            module.register_forward_hook(_end_call, with_kwargs=True, always_call=True)


def _refuse_to_save(*args: Any, **kwargs: Any) -> None:
    """Of a model inside a converted one, whose own config does not say how it was converted."""
    raise ValueError("a part of a converted model cannot be saved by itself: save the whole model")


def _begin_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    execution = execution_of(module)
    named = arguments_of(module, args, kwargs)
    frame, outer = watching.caller_frame(), execution.call
    if outer is not None and not outer.is_under_way:  # an interrupt cut it short
        begin(None)
        outer = None
    if outer is not None and not _calls_itself(outer, module):
        mask = outer.token_mask if takes_tokens(module) else None
        begin(Call(execution.identity, module, outer.temporal, innermost(), mask, is_entry=False, frame=frame))
        return (), named
    _check_call(module, execution, named)
    temporal, given = execution.step_mode == "m", dict(named)
    labels = _put_targets_aside(module, named) if temporal else None
    if temporal:
        _repeat_inputs(named, execution.time_steps)
    begin(Call(execution.identity, module, temporal, innermost(), padding_of(given), given, labels, frame=frame))
    return (), named


def _calls_itself(outer: Call, module: nn.Module) -> bool:
    """Whether `module` is being run by the call `outer` already: a hook calls the model again, a call of its own."""
    current: Call | None = outer
    while current is not None and current.caller is not module:
        current = None if current.is_entry else current.outer
    return current is not None


def _check_call(module: nn.Module, execution: Execution, named: dict[str, Any]) -> None:
    """Raise where the model was changed after conversion, or is asked for what it does not have."""
    implementation = getattr(module.config, "_attn_implementation", None)
    if implementation != NAME:
        raise RuntimeError(
            f"the attention implementation was changed to {implementation!r} after conversion, "
            f"which would run attention outside the spiking network; call model.set_attn_implementation({NAME!r})"
        )
    if named.get("output_attentions") or getattr(module.config, "output_attentions", False):
        raise ValueError("a spiking network has no attention weights to return: leave output_attentions out")
    for parent, name, full_name in execution.layers:
        if not _is_spiking(getattr(parent, name)):
            raise RuntimeError(
                f"{full_name} was replaced after conversion and is no spiking layer any more: "
                "resize embeddings, or change layers, before the model is converted"
            )


def _is_spiking(layer: nn.Module) -> bool:
    """Whether a layer is spiking, or wrapped around one, as by an adapter."""
    return isinstance(layer, SpikingLayer) or any(isinstance(part, SpikingLayer) for part in layer.modules())


def _put_targets_aside(module: nn.Module, named: dict[str, Any]) -> Tensor | None:
    """Take labels out of the arguments where the loss must be computed at the end of the call.

    A loss is computed inside the call, from logits that must be sums over T there: those of a readout.

    The head of a decoder that classifies sequences is no readout, because modelling code picks a token by its place in
    the batch; its loss is computed at the end of the call.
    """
    targets = [name for name in TARGETS if named.get(name) is not None]
    if not targets or any(isinstance(layer, SpikingReadout) for layer in module.modules()):
        return None
    if targets != ["labels"] or not classifies_sequences(module):
        raise NotImplementedError(
            f"a temporal call of {type(module).__name__} cannot compute a loss from {', '.join(targets)}: compute "
            'it from the logits, or call las_sj.set_execution(model, "accumulated")'
        )
    labels: Tensor = named.pop("labels")
    return labels


def _repeat_inputs(named: dict[str, Any], time_steps: int) -> None:
    source = source_of(named)
    batch = None if source is None else len(source)
    for name, value in named.items():
        if name == _ENCODED_IMAGES and value:
            named[name] = {kind: repeat_encoded(output, time_steps) for kind, output in value.items()}
        if not isinstance(value, Tensor) or name in _NOT_REPEATED:
            continue
        if is_value(name):
            named[name] = (value / time_steps).repeat(time_steps, *[1] * (value.dim() - 1))
        elif name == "position_ids" and value.dim() == 3:  # [3 or 4, B, S]: one row for each axis of an image
            named[name] = value.repeat(1, time_steps, 1) if value.shape[1] == batch else value
        elif name in OF_IMAGES or (value.dim() in (2, 3, 5) and len(value) == batch):
            named[name] = value.repeat(time_steps, *[1] * (value.dim() - 1))


def _end_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    ended = innermost()
    if ended is None or ended.caller is not module:  # its beginning was refused
        return output
    begin(ended.outer)
    execution = execution_of(module)
    if ended.is_entry and output is not None:
        execution.ranges.check()
    if not ended.is_entry or not ended.temporal or output is None:
        return output
    source = source_of(kwargs)
    if source is None:
        return output
    # The vision tower of Qwen2-VL takes patches and merges some of them: all of its outputs are currents.
    batch = None if "grid_thw" in kwargs else len(source)
    return _with_loss(_sum_over_time(output, execution.time_steps, batch), ended)


def _sum_over_time(output: Any, time_steps: int, batch: int | None) -> Any:
    """Sum every float tensor [T·B, ...] in `output` (any, where T·B is None); readouts, [B, ...], are sums already."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.dim() > 0 and (batch is None or len(output) == batch):
            return output.unflatten(0, (time_steps, -1)).sum(0)
        return output
    if isinstance(output, ModelOutput):
        for key, value in output.items():
            if key in _IMAGE_OUTPUTS:
                output[key] = sum_encoded(value, time_steps)
            else:
                output[key] = _sum_over_time(value, time_steps, batch)
        return output
    if isinstance(output, tuple):
        return tuple(_sum_over_time(value, time_steps, batch) for value in output)
    return output


def _with_loss(output: Any, ended: Call) -> Any:
    labels = ended.labels
    if labels is None:
        return output
    if isinstance(output, tuple):
        return (ForSequenceClassificationLoss(labels, output[0], ended.caller.config), *output)
    loss = ForSequenceClassificationLoss(labels, output.logits, ended.caller.config)
    return type(output)(**{**output, "loss": loss})
