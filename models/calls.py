"""How a call of a Hugging Face model becomes a temporal run: inputs are repeated at its door, and outputs summed.

The outermost call of the model or of a model inside it repeats the inputs T times along the batch, t-major; everything
in between works on [T·B, ...]; at its end the outputs are summed over T.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from las_sj.models.adapters import is_adapter
from las_sj.models.call import Call, innermost, under_way
from las_sj.models.dropout import one_mask_a_window
from las_sj.models.encoded_images import repeat_encoded, sum_encoded
from las_sj.models.execution import Execution
from las_sj.models.few_steps import steps_of_call
from las_sj.models.foreign import look_over
from las_sj.models.full_precision import full_precision
from las_sj.models.heads import classifies_sequences
from las_sj.models.hidden_option import hidden_from_compilers
from las_sj.models.inputs import (
    OF_IMAGES,
    TARGETS,
    arguments_of,
    padding_of,
    source_of,
    takes_tokens,
    values_of,
)
from las_sj.models.lanes import Lanes
from las_sj.models.layers.attention import NAME
from las_sj.models.layers.linear import FedReadout
from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.losses_at_end import has_token_loss, loss_at_end
from las_sj.models.operations import attention as operations_attention
from las_sj.models.operations.mode import intercepted
from las_sj.models.operations.state import KeptState
from las_sj.models.operations.sums import summed
from las_sj.models.rate_coded.cache import fold, in_lanes
from las_sj.models.tensor_parallel import check_shared_call
from las_sj.neurons import WindowNode, watching

_ENCODED_IMAGES = "mm_encoder_outputs"
_IMAGE_OUTPUTS = ("image_outputs", "video_outputs")
_NOT_REPEATED = (*TARGETS, "logits_to_keep")


class OpensCalls(KnowsCalls):
    """Mixin of a converted model, and of the models inside of it: a call of one begins and ends a `Call`.

    Attributes:
        full_name: of the model within the converted one; "" for that itself.
    """

    full_name: str = ""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As of `PreTrainedModel`, for a whole model, which can be loaded again.

        Raises:
            ValueError: a part of a model, whose own config does not say how it was converted, or adapters in it.
        """
        if self.full_name:
            raise ValueError("a part of a converted model cannot be saved by itself: save the whole model")
        wrapped = next((name for name, module in self.named_modules() if is_adapter(module)), None)
        if wrapped is not None and not getattr(self, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"{wrapped} is an adapter, which a converted model cannot be saved with: save the adapter, "
                "or merge it first (PEFT's merge_and_unload)"
            )
        return super().save_pretrained(*args, **kwargs)  # type: ignore[misc]

    def _supports_mm_encoder_outputs(self) -> bool:
        """Whether `generate` may encode images before a call; operations outside of calls would not be intercepted."""
        return self.execution.operated is None and super()._supports_mm_encoder_outputs()  # type: ignore[misc]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As of `nn.Module`, for accumulated calls; it warns where temporal ones are set, which run as they are."""
        if self.execution.step_mode == "m":
            warnings.warn(
                "torch.compile leaves temporal calls as they are: what they do depends on values; accumulated ones, of "
                'the same network, are compiled (las_sj.set_execution(model, "accumulated"))',
                stacklevel=2,
            )
        super().compile(*args, **kwargs)

    @classmethod
    def members_over(cls, base: Any) -> dict[str, Any]:
        """A forward method that opens a call, with the signature of the model's own, which transformers looks at."""
        return {"forward": _opening(base.forward)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = super().__call__
        return call(*args, **kwargs) if _is_written_down(self) else _uncompiled(call, args, kwargs)


def _opening(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward method of a model as one that begins and ends a call: hooks on the model stand outside of it."""

    @wraps(forward)
    def run(model: OpensCalls, *args: Any, **kwargs: Any) -> Any:
        if _is_written_down(model):
            return _traced(model, forward, args, kwargs)
        return _uncompiled(_run, (model, forward, arguments_of(model, args, kwargs)), {})

    return run


def _run(model: OpensCalls, forward: Callable[..., Any], named: dict[str, Any]) -> Any:
    """Run a call, which may be one within another."""
    watching.refuse_tracing()
    outer = model.execution.call
    with full_precision(model, named):
        if outer is None or _calls_itself(outer, model):
            return _first(model, forward, named)
        mask = outer.token_mask if takes_tokens(model) else None
        identity = model.execution.identity
        inner = Call(identity, model, outer.temporal, outer.time_steps, innermost(), mask, is_entry=False)
        with under_way(inner):
            return forward(model, **named)


def _is_written_down(model: OpensCalls) -> bool:
    """Whether torch compiles or exports the call: a compiler takes none that is not plain."""
    if torch.compiler.is_dynamo_compiling():  # to which an export is what it is not
        return _is_plain(model)
    return torch.compiler.is_compiling()


def _is_plain(model: OpensCalls) -> bool:
    """Whether calls are accumulated, and nobody observes a neuron: observers must know the call, and its padding."""
    if model.execution.step_mode == "m" or model.execution.operated is not None:
        return False
    return not any(isinstance(module, WindowNode) and module.is_observed for module in model.modules())


@torch.compiler.disable
def _uncompiled(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return call(*args, **kwargs)


def _traced(model: OpensCalls, forward: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A call that torch compiles or exports, which is accumulated: nothing needs to know that it is under way.

    Raises:
        RuntimeError: it is exported, and temporal.
    """
    if model.execution.step_mode == "m":
        raise RuntimeError(
            "a temporal call cannot be exported: what it does depends on its values; "
            'call las_sj.set_execution(model, "accumulated") first, which is the same network'
        )
    _check_call(model, named)
    look_over(model, model.full_name, temporal=False)
    with full_precision(model, named), hidden_from_compilers(model):
        return forward(model, *args, **named)


def _first(model: OpensCalls, forward: Callable[..., Any], named: dict[str, Any]) -> Any:
    """Run a call that is not one within another of the same model."""
    execution = model.execution
    temporal, time_steps = execution.step_mode == "m", execution.time_steps
    if execution.operated is not None:
        time_steps = steps_of_call(time_steps)
    _check_call(model, named)
    look_over(model, model.full_name, temporal)
    lanes = execution.lanes if temporal else None
    given = dict(named)
    labels = _put_targets_aside(model, named) if temporal else None
    if temporal:
        _repeat_inputs(named, time_steps, values_of(model, named), lanes)
    call = Call(execution.identity, model, temporal, time_steps, innermost(), padding_of(given), given, labels)
    values = values_of(model, named)
    caches: AbstractContextManager[None] = nullcontext()
    if execution.lanes is not None:
        caches = in_lanes(execution.lanes, named, temporal)
    state = intercepted(execution, call, named, values)
    with under_way(call), one_mask_a_window(model, time_steps, temporal), caches, state:
        output = forward(model, **named)
    execution.ranges.check()
    return _finish(output, call, execution, values) if temporal or execution.operated is not None else output


def _calls_itself(outer: Call, module: nn.Module) -> bool:
    """Whether `module` is being run by the call `outer` already: a hook calls the model again, a call of its own."""
    current: Call | None = outer
    while current is not None and current.caller is not module:
        current = None if current.is_entry else current.outer
    return current is not None


def _check_call(model: OpensCalls, named: dict[str, Any]) -> None:
    """Raise where the model was changed after conversion, or is asked for what it does not have."""
    check_shared_call(model)
    config = getattr(model, "config", None)
    if config is None:
        return
    implementation = getattr(config, "_attn_implementation", None)
    if model.execution.lanes is None and implementation not in (
        NAME,
        operations_attention.NAME,
        operations_attention.PACKED,
    ):
        raise RuntimeError(
            f"the attention implementation was changed to {implementation!r} after conversion, "
            f"which would run attention outside the spiking network; call model.set_attn_implementation({NAME!r})"
        )
    if named.get("output_attentions") or getattr(config, "output_attentions", False):
        raise ValueError("a spiking network has no attention weights to return: leave output_attentions out")


def _put_targets_aside(module: OpensCalls, named: dict[str, Any]) -> Tensor | None:
    """Take labels out of the arguments where the loss must be computed at the end of the call.

    A loss is computed inside the call, from logits that must be sums over T there: those of a readout.

    The head of a decoder that classifies sequences is no readout, because modelling code picks a token by its place in
    the batch; its loss is computed at the end of the call. So is every loss of lanes, of the mean of their logits.
    """
    targets = [name for name in TARGETS if named.get(name) is not None]
    if not targets or any(isinstance(layer, FedReadout) for layer in module.modules()):
        return None
    of_tokens = module.execution.lanes is not None and has_token_loss(module)
    if targets != ["labels"] or not (classifies_sequences(module) or of_tokens):
        raise NotImplementedError(
            f"a temporal call of {type(module).__name__} cannot compute a loss from {', '.join(targets)}: compute "
            'it from the logits, or call las_sj.set_execution(model, "accumulated")'
        )
    labels: Tensor = named.pop("labels")
    return labels


def _repeat_inputs(named: dict[str, Any], time_steps: int, values: Collection[str], lanes: Lanes | None = None) -> None:
    """Repeat inputs T times; float ones become shares of a current, but are whole in each lane."""
    source = source_of(named)
    source = named.get(next(iter(values), "")) if source is None else source
    batch = None if source is None else len(source)
    for name, value in named.items():
        if name == _ENCODED_IMAGES and value:
            named[name] = {kind: repeat_encoded(output, time_steps) for kind, output in value.items()}
        if lanes is not None and name == "attention_mask":
            named[name] = _repeated_mask(value, batch, time_steps)
            continue
        if not isinstance(value, Tensor) or name in _NOT_REPEATED:
            continue
        if name in values:
            named[name] = (value / time_steps if lanes is None else value).repeat(time_steps, *[1] * (value.dim() - 1))
        elif name == "position_ids" and value.dim() == 3:  # [3 or 4, B, S]: one row for each axis of an image
            named[name] = value.repeat(1, time_steps, 1) if value.shape[1] == batch else value
        elif name in OF_IMAGES or (_may_be_of_batch(value) and len(value) == batch):
            named[name] = value.repeat(time_steps, *[1] * (value.dim() - 1))


def _repeated_mask(mask: Any, batch: int | None, time_steps: int) -> Any:
    """A mask for all lanes: [B, S], [B, 1, Q, K] as for a static cache, or some of these by kinds of attention."""
    if isinstance(mask, Mapping):
        return {kind: _repeated_mask(each, batch, time_steps) for kind, each in mask.items()}
    if not isinstance(mask, Tensor) or mask.dim() < 2 or len(mask) != batch:
        return mask
    return mask.repeat(time_steps, *[1] * (mask.dim() - 1))


def _may_be_of_batch(value: Tensor) -> bool:
    """Whether a first dimension as long as the batch is that of the batch."""
    return value.dim() in (2, 3, 5) or (value.dim() == 1 and value.is_floating_point())


def _finish(output: Any, call: Call, execution: Execution, values: Collection[str]) -> Any:
    """The output of a temporal call: what was computed at each step, summed.

    Args:
        output: of the call.
        call: which ends.
        execution: of the model.
        values: names of the float inputs.
    """
    if execution.operated is not None:
        steps, batch = call.time_steps if call.temporal else 1, call.batch
        first = call.arguments.get(next(iter(values), ""))
        if batch is None and isinstance(first, Tensor) and first.dim():
            batch = len(first)
        return summed(output, KeptState(None if batch is None else steps * batch, steps))
    if execution.lanes is not None and isinstance(output, ModelOutput | tuple):  # which may have a new cache
        fold(output.values() if isinstance(output, ModelOutput) else output, execution.lanes)
    if output is None or source_of(call.arguments) is None:
        return output
    # The vision tower of Qwen2-VL takes patches and merges some of them: all of its outputs are currents.
    rows = None if call.batch is None else call.time_steps * call.batch
    return _with_loss(_sum_over_time(output, call.time_steps, rows, execution.lanes), call)


def _sum_over_time(output: Any, time_steps: int, batch: int | None, lanes: Lanes | None) -> Any:
    """Sum every float tensor [T·B, ...] in `output` (any, where T·B is None); readouts, [B, ...], are sums already.

    What lanes have computed is averaged instead.
    """
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.dim() > 0 and (batch is None or len(output) == batch):
            return output.unflatten(0, (time_steps, -1)).sum(0) if lanes is None else lanes.mean(output)
        return output
    if isinstance(output, ModelOutput):
        for key, value in output.items():
            if key in _IMAGE_OUTPUTS:
                output[key] = sum_encoded(value, time_steps)
            else:
                output[key] = _sum_over_time(value, time_steps, batch, lanes)
        return output
    if isinstance(output, tuple):
        return tuple(_sum_over_time(value, time_steps, batch, lanes) for value in output)
    return output


def _with_loss(output: Any, ended: Call) -> Any:
    labels = ended.labels
    if labels is None:
        return output
    if isinstance(output, tuple):
        return (loss_at_end(output[0], labels, ended.caller), *output)
    return type(output)(**{**output, "loss": loss_at_end(output.logits, labels, ended.caller)})
