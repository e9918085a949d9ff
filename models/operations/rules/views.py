"""Functions that keep the order of a current's entries, or do nothing to them: [T·B, ...] in another shape or type."""

from typing import Any

from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule


@rule(
    """
    view reshape flatten unflatten ravel squeeze unsqueeze view_as reshape_as atleast_1d atleast_2d atleast_3d
    """
)
def view(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Another shape, entries in the same order; time goes where its entries go."""
    output: Tensor = op.function(x, *args, **kwargs)
    if not op.is_current(x):  # it takes the shape of a current
        return output
    axis = op.time.after_view(x.shape, op.axis(x), output.shape)
    if axis is None:
        raise op.refusal(f"that tears time steps apart, {list(x.shape)} to {list(output.shape)}")
    return op.current(output, axis)


@rule(
    """
    clone detach to float double half bfloat16 type type_as cpu cuda requires_grad alias positive
    resolve_conj resolve_neg conj data real imag dropout dropout1d dropout2d dropout3d alpha_dropout
    feature_alpha_dropout feature_dropout native_dropout identity neg negative __neg__ nan_to_num tril triu roll
    flip fliplr flipud rot90 complex chalf cfloat _conj
    """
)
def same(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The shape stays, and entries of different time steps never meet."""
    output = op.function(x, *args, **kwargs)
    if (
        not op.is_current(x)
        or not isinstance(output, Tensor)
        or not (output.is_floating_point() or output.is_complex())
    ):
        return output
    return op.current(output, op.axis(x))


@rule("contiguous")
def contiguous(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Entries side by side in memory."""
    room = None if args or kwargs or x.is_contiguous() else op.room(x)
    return op.current(x.contiguous(*args, **kwargs) if room is None else room.copy_(x), op.axis(x))


@rule("view_as_complex", "view_as_real")
def complex_view(op: Operation, x: Tensor) -> Tensor:
    """Pairs of reals as complex numbers, or the inverse: the last dimension goes, or comes."""
    return op.current(op.function(x), op.axis(x))
