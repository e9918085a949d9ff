"""The windows of a call, as they are counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from las_sj.analysis import SpikeMonitor
from las_sj.neurons import WindowNode, WindowRecord

Seen = Callable[[str, WindowNode, WindowRecord], None]


@contextmanager
def windows_seen(monitor: SpikeMonitor, seen: Seen) -> Iterator[None]:
    """Within this context `seen` is told of each window that an entered monitor counts, too.

    Args:
        monitor: within its own context, whose end ends this one's effect.
        seen: is called with the site's name, its node and the record.
    """
    for name, counts in monitor.sites.items():
        node = counts.site.node
        counting = node.recorder
        assert counting is not None

        def both(
            node: WindowNode, record: WindowRecord, name: str = name, counting: Callable[..., None] = counting
        ) -> None:
            counting(node, record)
            seen(name, node, record)

        node.recorder = both
    yield


def rows_of(shape: torch.Size) -> int:
    """How many tokens, or what else takes its turn on the same neurons, a window [B, ..., S, C] has: B·S."""
    return shape[0] * (shape[-2] if len(shape) > 2 else 1)
