"""What all spiking layers of one model share, and the choice of its execution."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from spikingjelly.activation_based import base, functional
from torch import Tensor, nn

from las_sj.models.call import Call, innermost
from las_sj.models.coverage import Coverage
from las_sj.models.lanes import Lanes
from las_sj.models.operated import Operated
from las_sj.models.out_of_range import Ranges
from las_sj.neurons import watching

EXECUTION = "las_execution"  # the attribute of a converted model that holds its `Execution`
EXECUTIONS = {"temporal": "m", "accumulated": "s"}  # and SpikingJelly's step modes


class Execution(nn.Module, base.StepModule):
    """How a converted model runs; a submodule of it without parameters.

    SpikingJelly's `set_step_mode` reaches it like every neuron: "m" is the temporal execution, in which tensors
    are [T·B, ...], t-major, and carry currents; "s" is the accumulated one, with tensors [B, ...].
    Outside a call, layers treat what they are given as accumulated values.

    Attributes:
        time_steps: T.
        identity: tells its calls from those of other models; replicas on several devices share it, copies do not.
        coverage: what became of the model's modules.
        layers: full names of the spiking layers.
        ranges: warns where inputs lie out of range.
        operated: what a conversion by operations has found; None of a model that was converted by its family.
        lanes: of a network of rate codes, whose temporal calls carry values and not currents; None of all others.
    """

    def __init__(self, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.step_mode = "s"
        self.identity = object()
        self.coverage = Coverage({}, {})
        self.layers: tuple[str, ...] = ()
        self.ranges = Ranges()
        self.operated: Operated | None = None
        self.lanes: Lanes | None = None

    @property
    def name(self) -> str:
        """The execution that is set, "temporal" or "accumulated"."""
        return next(name for name, mode in EXECUTIONS.items() if mode == self.step_mode)

    @property
    def counted_in(self) -> str:
        """The fastest execution in which neurons spike, and can be counted: rate codes do in time alone."""
        return "accumulated" if self.lanes is None else "temporal"

    @property
    def call(self) -> Call | None:
        """The innermost call of this model that is under way in this thread; none is known where torch compiles it."""
        if torch.compiler.is_compiling():
            return None
        call = innermost()
        while call is not None and call.identity is not self.identity:
            call = call.outer
        return call

    @property
    def temporal(self) -> bool:
        """Whether a temporal call is under way.

        Raises:
            RuntimeError: a layer is computed again in a backward pass, and nobody knows of which call.
        """
        call = self.call
        if call is not None:
            return call.temporal
        if self.step_mode == "m" and watching.in_backward():
            raise RuntimeError(
                "a layer of a temporal call is computed again in backward by a checkpoint that las_sj does not know: "
                'use model.gradient_checkpointing_enable(), or las_sj.set_execution(model, "accumulated")'
            )
        return False

    def live_of(self, shape: torch.Size) -> Tensor | None:
        """Which neurons of a window [B, S, C], or of tokens in one row [B·S, C], belong to tokens and not to padding.

        Returns:
            bool, [B, S, 1] or [B·S, 1]; None without padding, and for heads and pooled tokens.
        """
        call = self.call
        if call is None or call.token_mask is None:
            return None
        if len(shape) == 2 and shape[0] == call.token_mask.numel():
            return call.live_rows
        return call.live_tokens if len(shape) == 3 and shape[:2] == call.token_mask.shape else None

    def mask_of(self, v: Tensor) -> Tensor | None:
        """Which rows of channels of `v`, [B, S, C] or [B·S, C], belong to tokens: bool [B, S] or [B·S], or None."""
        live = self.live_of(v.shape)
        return None if live is None else live.squeeze(-1)

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


def set_execution(model: nn.Module, execution: str) -> None:
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
def running(model: nn.Module, execution: str) -> Iterator[None]:
    """Within this context a converted model runs in one execution; afterwards it is in the one that it was in before.

    Arguments and errors are those of `set_execution`.
    """
    before = execution_of(model).name
    set_execution(model, execution)
    try:
        yield
    finally:
        set_execution(model, before)
