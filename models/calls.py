"""How a call of a Hugging Face model becomes a temporal run: hooks that repeat its inputs and sum its outputs.

The outermost forward method of the model or of a model inside it repeats the inputs T times along the batch, t-major;
everything in between works on [T·B, ...]; at its end the outputs are summed over T.
"""

import inspect
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.utils import ModelOutput

from las_sj.models.encoded_images import repeat_encoded, sum_encoded
from las_sj.models.execution import EXECUTION, Call, Execution
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.attention import NAME
from las_sj.models.layers.linear import SpikingReadout
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.registry import Family

# Float inputs enter as constant currents. The vision tower of Qwen2-VL calls its pixels hidden_states.
VALUES = ("inputs_embeds", "pixel_values", "pixel_values_videos", "hidden_states")
BATCH_SOURCES = ("input_ids", *VALUES)
_OF_IMAGES = ("image_grid_thw", "video_grid_thw", "grid_thw", "image_sizes")  # one row for each image or video
_ENCODED_IMAGES = "mm_encoder_outputs"
_IMAGE_OUTPUTS = ("image_outputs", "video_outputs")
TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions", "mc_labels")
_NOT_REPEATED = (*TARGETS, "logits_to_keep")


def attach(model: PreTrainedModel, execution: Execution, family: Family) -> None:
    """Make the forward methods of `model` and of the models inside it run in `execution`, islands excepted."""
    setattr(model, EXECUTION, execution)
    execution.batch_state = [
        (module, name) for module in model.modules() for name in family.batch_state.get(type(module).__name__, ())
    ]
    execution.layers = [
        (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], name)
        for name, layer in model.named_modules()
        if isinstance(layer, SpikingLayer)
    ]
    options = {name for layer in model.modules() if isinstance(layer, SpikingLayer) for name in layer.hidden_options}
    execution.hidden_options = [(model.config, name) for name in sorted(options) if hasattr(model.config, name)]
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


def arguments_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a forward call by name."""
    return dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs


def source_of(named: dict[str, Any]) -> Tensor | None:
    """The input that tells the size of the batch."""
    return next((named[name] for name in BATCH_SOURCES if isinstance(named.get(name), Tensor)), None)


def _begin_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    execution: Execution = getattr(module, EXECUTION)
    named = arguments_of(module, args, kwargs)
    if any(call.caller is module for call in execution.calls):  # the last call was cut short by an interrupt
        _restore(execution, execution.calls[0])
        execution.calls.clear()
    outer = execution.calls[-1] if execution.calls else None
    if outer is not None:
        execution.calls.append(Call(module, outer.token_mask if _takes_tokens(module) else None))
        return (), named
    call = Call(module, _padding_of(named))
    execution.calls.append(call)
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
    for config, name in execution.hidden_options:
        call.options[name] = getattr(config, name)
        setattr(config, name, None)
    if execution.temporal:
        _put_targets_aside(call, named)
        _repeat_inputs(named, execution.time_steps)
        for owner, name in execution.batch_state:
            state = getattr(owner, name)
            if isinstance(state, Tensor):
                setattr(owner, name, state.repeat(execution.time_steps, *[1] * (state.dim() - 1)))
    return (), named


def _is_spiking(layer: nn.Module) -> bool:
    """Whether a layer is spiking, or wrapped around one, as by an adapter."""
    return isinstance(layer, SpikingLayer) or any(isinstance(part, SpikingLayer) for part in layer.modules())


def _takes_tokens(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters
    return "input_ids" in parameters or "inputs_embeds" in parameters


def _padding_of(named: dict[str, Any]) -> Tensor | None:
    """Padding among the tokens of this call; those that a cache holds are masked too, but not run."""
    mask, source = named.get("attention_mask"), source_of(named)
    if not isinstance(mask, Tensor) or mask.dim() != 2 or source is None or source.dim() < 2:
        return None
    mask = mask[:, -source.shape[1] :]
    return None if bool(mask.all()) else mask.bool()


def _put_targets_aside(call: Call, named: dict[str, Any]) -> None:
    """A loss is computed inside the call, from logits that must be sums over T there: those of a readout.

    The head of a decoder that classifies sequences is no readout, because modelling code picks a token by its place in
    the batch; its loss is computed at the end of the call.
    """
    targets = [name for name in TARGETS if named.get(name) is not None]
    if not targets or any(isinstance(layer, SpikingReadout) for layer in call.caller.modules()):
        return
    if targets != ["labels"] or not type(call.caller).__name__.endswith("ForSequenceClassification"):
        raise NotImplementedError(
            f"a temporal call of {type(call.caller).__name__} cannot compute a loss from {', '.join(targets)}: compute "
            'it from the logits, or call las_sj.set_execution(model, "accumulated")'
        )
    call.labels = named.pop("labels")


def _repeat_inputs(named: dict[str, Any], time_steps: int) -> None:
    source = source_of(named)
    batch = None if source is None else len(source)
    for name, value in named.items():
        if name == _ENCODED_IMAGES and value:
            named[name] = {kind: repeat_encoded(output, time_steps) for kind, output in value.items()}
        if not isinstance(value, Tensor) or name in _NOT_REPEATED:
            continue
        if name in VALUES:
            named[name] = (value / time_steps).repeat(time_steps, *[1] * (value.dim() - 1))
        elif name == "position_ids" and value.dim() == 3:  # [3 or 4, B, S]: one row for each axis of an image
            named[name] = value.repeat(1, time_steps, 1) if value.shape[1] == batch else value
        elif name in _OF_IMAGES or (value.dim() in (2, 3, 5) and len(value) == batch):
            named[name] = value.repeat(time_steps, *[1] * (value.dim() - 1))


def _end_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    execution: Execution = getattr(module, EXECUTION)
    temporal = execution.temporal
    call = execution.calls.pop()
    if execution.calls:
        return output
    _restore(execution, call)
    if not temporal:
        return output
    source = source_of(kwargs)
    if output is None or source is None:
        return output
    # The vision tower of Qwen2-VL takes patches and merges some of them: all of its outputs are currents.
    batch = None if "grid_thw" in kwargs else len(source)
    return _with_loss(_sum_over_time(output, execution.time_steps, batch), call)


def _restore(execution: Execution, call: Call) -> None:
    """Bring the model's config and what it keeps between calls back into the state that they have outside of one."""
    for config, name in execution.hidden_options:
        setattr(config, name, call.options.get(name, getattr(config, name)))
    if execution.step_mode != "m":
        return
    for owner, name in execution.batch_state:
        state = getattr(owner, name)
        if isinstance(state, Tensor):
            setattr(owner, name, state[: len(state) // execution.time_steps])


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


def _with_loss(output: Any, call: Call) -> Any:
    labels = call.labels
    if labels is None:
        return output
    if isinstance(output, tuple):
        return (ForSequenceClassificationLoss(labels, output[0], call.caller.config), *output)
    loss = ForSequenceClassificationLoss(labels, output.logits, call.caller.config)
    return type(output)(**{**output, "loss": loss})
