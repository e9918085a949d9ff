"""What all spiking layers of one model share: whether a call is under way, and in which execution."""

from spikingjelly.activation_based import base
from torch import Tensor, nn


class Execution(nn.Module, base.StepModule):
    """State of a converted model, a submodule of it without parameters.

    SpikingJelly's `set_step_mode` reaches it like every neuron: "m" is the temporal execution, in which tensors
    are [T·B, ...], t-major, and carry currents; "s" is the accumulated one, with tensors [B, ...].

    Attributes:
        time_steps: T.
        callers: the models whose forward methods are under way, outermost first; outside a call, layers treat what
            they are given as accumulated values.
        token_mask: bool [B, S], False on padding; None without padding.
    """

    def __init__(self, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.step_mode = "s"
        self.callers: list[nn.Module] = []
        self.token_mask: Tensor | None = None

    @property
    def temporal(self) -> bool:
        """Whether a temporal call is under way."""
        return bool(self.callers) and self.step_mode == "m"

    def mask_of(self, v: Tensor) -> Tensor | None:
        """`token_mask` if `v` has one row of channels per token, [B, S, C]; None for heads and pooled tokens."""
        mask = self.token_mask
        return mask if mask is not None and v.dim() == 3 and v.shape[:2] == mask.shape else None

    def split_time(self, x: Tensor) -> Tensor:
        """[T·B, ...] to [T, B, ...]."""
        return x.reshape(self.time_steps, -1, *x.shape[1:])

    @staticmethod
    def merge_time(x_seq: Tensor) -> Tensor:
        """[T, B, ...] to [T·B, ...]."""
        return x_seq.flatten(0, 1)
