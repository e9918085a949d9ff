"""Orders of constants that are the same at each time step, such as the experts that tokens were sent to."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_SORTING = ("sort", "argsort")


def sorted_like_one_step(
    name: str, function: Callable[..., Any], args: Any, kwargs: Any, time_steps: int
) -> tuple[Tensor, Tensor] | None:
    """Values and places of a row that holds the same at each step, equal ones in the order that the function has them.

    A sort that is not stable puts equal entries in any order, and in another at each step, while neurons need the
    entries of all steps in the same. None for all other functions and tensors.

    Args:
        name: of the function.
        function: of torch.
        args, kwargs: its arguments, all constants.
        time_steps: T.
    """
    if name not in _SORTING or time_steps == 1 or not args or args[0].dim() != 1 or len(args[0]) % time_steps:
        return None
    row: Tensor = args[0]
    steps = row.view(time_steps, -1)
    if not torch.equal(steps, steps[:1].expand_as(steps)):
        return None
    first = function(steps[0], *args[1:], **kwargs)
    order = first if isinstance(first, Tensor) else first[1]  # [N]
    values = steps[0][order]
    group = torch.cat([order.new_zeros(1), (values[1:] != values[:-1]).long().cumsum(0)])
    starts = torch.arange(time_steps, device=row.device).unsqueeze(1) * len(order)
    places = (starts + order).flatten()[group.repeat(time_steps).argsort(stable=True)]
    return row[places], places
