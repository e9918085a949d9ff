"""What all spiking layers of one model share: whether a call is under way, and in which execution."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spikingjelly.activation_based import base, functional
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

EXECUTION = "las_execution"  # the attribute of a converted model that holds its `Execution`
EXECUTIONS = {"temporal": "m", "accumulated": "s"}  # and SpikingJelly's step modes


@dataclass
class Call:
    """A forward call that is under way.

    Attributes:
        caller: the model that was called.
        token_mask: bool [B, S], False on padding; None without padding, or where the model takes no tokens.
        labels: what a loss is computed from at the end of the call.
        options: values of the config's options that are hidden during the call.
    """

    caller: nn.Module
    token_mask: Tensor | None
    labels: Tensor | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def flat_mask(self) -> Tensor | None:
        """The same for tokens in one row, bool [B·S]."""
        return None if self.token_mask is None else self.token_mask.flatten()


class Execution(nn.Module, base.StepModule):
    """State of a converted model, a submodule of it without parameters.

    SpikingJelly's `set_step_mode` reaches it like every neuron: "m" is the temporal execution, in which tensors
    are [T·B, ...], t-major, and carry currents; "s" is the accumulated one, with tensors [B, ...].

    Attributes:
        time_steps: T.
        calls: the calls under way, outermost first; outside a call, layers treat what they are given as accumulated
            values.
        layers: where the spiking layers are: the module around each, its name there, and its full name.
        hidden_options: configs and their options that are None during calls, because a layer does their work.
        batch_state: modules and their attributes that keep a tensor with one row for each sequence between calls.
    """

    def __init__(self, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.step_mode = "s"
        self.calls: list[Call] = []
        self.layers: list[tuple[nn.Module, str, str]] = []
        self.hidden_options: list[tuple[PretrainedConfig, str]] = []
        self.batch_state: list[tuple[nn.Module, str]] = []

    @property
    def name(self) -> str:
        """The execution that is set, "temporal" or "accumulated"."""
        return next(name for name, mode in EXECUTIONS.items() if mode == self.step_mode)

    @property
    def temporal(self) -> bool:
        """Whether a temporal call is under way."""
        return bool(self.calls) and self.step_mode == "m"

    @property
    def token_mask(self) -> Tensor | None:
        """Of the innermost call: bool [B, S], False on padding; None without padding."""
        return self.calls[-1].token_mask if self.calls else None

    def mask_of(self, v: Tensor) -> Tensor | None:
        """`token_mask` if `v` has one row of channels per token, [B, S, C], or flattened [B·S, C] (the mask is then
        [B·S]); None for heads and pooled tokens."""
        mask = self.token_mask
        if mask is None:
            return None
        if v.dim() == 2 and len(v) == mask.numel():
            return self.calls[-1].flat_mask
        return mask if v.dim() == 3 and v.shape[:2] == mask.shape else None

    def split_time(self, x: Tensor) -> Tensor:
        """[T·B, ...] to [T, B, ...]."""
        return x.unflatten(0, (self.time_steps, len(x) // self.time_steps))

    @staticmethod
    def merge_time(x_seq: Tensor) -> Tensor:
        """[T, B, ...] to [T·B, ...]."""
        return x_seq.flatten(0, 1)


def execution_of(model: nn.Module) -> Execution:
    """The `Execution` of a converted model.

    Raises:
        ValueError: `model` is not converted.
    """
    execution = getattr(model, EXECUTION, None)
    if not isinstance(execution, Execution):
        raise ValueError(f"{type(model).__name__} is not a converted model: call las_sj.convert first")
    return execution


def is_converted(model: nn.Module) -> bool:
    """Whether `model` is a converted one."""
    return isinstance(getattr(model, EXECUTION, None), Execution)


def set_execution(model: PreTrainedModel, execution: str) -> None:
    """Choose how a converted model runs: SpikingJelly's `set_step_mode` by name.

    Args:
        model: a converted model.
        execution: "temporal", T steps with a spike train between any two layers, or "accumulated", the same
            network with every window summed up.

    Raises:
        ValueError: another execution, or a model that is not converted.
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution must be one of {', '.join(EXECUTIONS)}, got {execution!r}")
    execution_of(model)  # raises where it is not converted
    functional.set_step_mode(model, EXECUTIONS[execution])


@contextmanager
def running(model: PreTrainedModel, execution: str) -> Iterator[None]:
    """Within this context a converted model runs in one execution; afterwards it is in the one that it was in before.

    Arguments and errors are those of `set_execution`.
    """
    before = execution_of(model).name
    set_execution(model, execution)
    try:
        yield
    finally:
        set_execution(model, before)
