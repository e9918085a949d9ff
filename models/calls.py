"""How a call of a Hugging Face model becomes a temporal run: hooks that repeat its inputs and sum its outputs.

The outermost forward method of the model or of a model inside it repeats the inputs T times along the batch, t-major;
everything in between works on [T·B, ...]; at its end the outputs are summed over T.
"""

import inspect
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from las_sj.models.attention import NAME
from las_sj.models.execution import Execution
from las_sj.models.linear import SpikingReadout

EXECUTION = "las_execution"  # the attribute of a converted model that holds its `Execution`

_BATCH_SOURCES = ("input_ids", "inputs_embeds", "pixel_values")
_VALUES = ("inputs_embeds", "pixel_values")  # float inputs enter as constant currents
TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions", "mc_labels")
_NOT_REPEATED = (*TARGETS, "logits_to_keep")


def attach(model: PreTrainedModel, execution: Execution) -> None:
    """Make the forward methods of `model` and of the models inside it run in `execution`."""
    setattr(model, EXECUTION, execution)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            if module is not model:
                module.__dict__[EXECUTION] = execution
            module.register_forward_pre_hook(_begin_call, with_kwargs=True)
            module.register_forward_hook(_end_call, with_kwargs=True, always_call=True)


def _begin_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    execution: Execution = getattr(module, EXECUTION)
    named = dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs
    if any(caller is module for caller in execution.callers):  # the last call was cut short by an interrupt
        execution.callers.clear()
    execution.callers.append(module)
    if len(execution.callers) > 1:
        return (), named
    implementation = getattr(module.config, "_attn_implementation", None)
    if implementation != NAME:
        raise RuntimeError(
            f"the attention implementation was changed to {implementation!r} after conversion, "
            f"which would run attention outside the spiking network; call model.set_attn_implementation({NAME!r})"
        )
    execution.token_mask = _padding_of(named)
    if execution.temporal:
        _check_targets(module, named)
        _repeat_inputs(named, execution.time_steps, "use_cache" in inspect.signature(module.forward).parameters)
    return (), named


def _padding_of(named: dict[str, Any]) -> Tensor | None:
    mask = named.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or bool(mask.all()):
        return None
    return mask.bool()


def _check_targets(module: nn.Module, named: dict[str, Any]) -> None:
    """A loss is computed inside the call, from logits that must be sums over T there: those of a readout."""
    targets = [name for name in TARGETS if named.get(name) is not None]
    if targets and not any(isinstance(layer, SpikingReadout) for layer in module.modules()):
        raise NotImplementedError(
            f"a temporal call of {type(module).__name__} cannot compute a loss from {', '.join(targets)}: compute it "
            'from the logits, or call las_sj.set_execution(model, "accumulated")'
        )


def _repeat_inputs(named: dict[str, Any], time_steps: int, has_cache: bool) -> None:
    if named.get("past_key_values") is not None:
        raise NotImplementedError(
            "a temporal call cannot use a key-value cache yet: pass use_cache=False, "
            'or call las_sj.set_execution(model, "accumulated")'
        )
    if has_cache:
        named["use_cache"] = False
    batch = next((len(named[name]) for name in _BATCH_SOURCES if isinstance(named.get(name), Tensor)), None)
    for name, value in named.items():
        repeats = isinstance(value, Tensor) and value.dim() in (2, 3, 4, 5) and len(value) == batch
        if not repeats or name in _NOT_REPEATED or (name == "attention_mask" and value.dim() == 4):
            continue
        value = value / time_steps if name in _VALUES else value
        named[name] = value.repeat(time_steps, *[1] * (value.dim() - 1))


def _end_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    execution: Execution = getattr(module, EXECUTION)
    temporal = execution.temporal
    execution.callers.pop()
    if execution.callers or not temporal or output is None:
        return output
    batch = next((len(kwargs[name]) for name in _BATCH_SOURCES if isinstance(kwargs.get(name), Tensor)), 0)
    return _sum_over_time(output, execution.time_steps, batch)


def _sum_over_time(output: Any, time_steps: int, batch: int) -> Any:
    """Sum every float tensor [T·B, ...] in `output`; readouts, [B, ...], are sums already."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.dim() > 0 and len(output) == batch:
            return output.unflatten(0, (time_steps, -1)).sum(0)
        return output
    if isinstance(output, ModelOutput):
        for key, value in output.items():
            output[key] = _sum_over_time(value, time_steps, batch)
        return output
    if isinstance(output, tuple):
        return tuple(_sum_over_time(value, time_steps, batch) for value in output)
    return output


def parts_of(model: PreTrainedModel) -> Execution:
    """The `Execution` of a converted model.

    Raises:
        ValueError: `model` is not converted.
    """
    execution = getattr(model, EXECUTION, None)
    if not isinstance(execution, Execution):
        raise ValueError(f"{type(model).__name__} is not a converted model: call las_sj.convert first")
    return execution
