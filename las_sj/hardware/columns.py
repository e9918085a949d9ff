"""Which populations are the accumulators of a layer's columns: found by their values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.data.batches import Batch, shortened
from las_sj.hardware.traffic import by_row
from las_sj.hardware.windows import windows_seen
from las_sj.models import execution_of, running
from las_sj.neurons import WindowNode, WindowRecord

ROWS = 64  # tokens that values are compared on
LEAST_ROWS = 4  # of fewer, values are alike by chance
EQUAL = 1 - 1e-4  # cosine of what two numbers are over all rows


@torch.no_grad()
def columns_of(model: PreTrainedModel, batch: Batch, layers: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The column of its layer that each neuron integrates, of populations that integrate single columns.

    A neuron integrates one column if its membrane potential is a multiple of the column's sum, whatever the token. So
    the order of heads, or of halves of a layer, needs no assumption; rotary positions, which add two columns, are none.

    Args:
        model: a converted model.
        batch: what it is called with; its first sequence is.
        layers: module of the only layer that drives each population in question, by the population's name.
    """
    potentials: dict[str, list[Tensor]] = {}

    def seen(name: str, node: WindowNode, record: WindowRecord) -> None:
        if name in layers:
            potentials.setdefault(name, []).append(by_row(record.potential[None].float())[0])

    short = shortened(batch, ROWS)
    with (
        running(model, execution_of(model).counted_in),
        SpikeMonitor(model, sample=1) as monitor,
        windows_seen(monitor, seen),
        _outputs(model, {*layers.values()}) as outputs,
    ):
        model(**short)
    found: dict[str, tuple[int, ...]] = {}
    taken: dict[str, set[int]] = {}
    for name, windows in potentials.items():
        sums = outputs.get(layers[name])
        columns = None if sums is None or len(windows) > 1 else _matched(windows[0], sums)
        if columns is not None and not taken.setdefault(layers[name], set()) & {*columns}:
            taken[layers[name]] |= {*columns}
            found[name] = columns
    return found


@contextmanager
def _outputs(model: nn.Module, modules: set[str]) -> Iterator[dict[str, Tensor]]:
    """Within this context, the last output of each module, [rows, F]."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            outputs[name] = output.detach().float().flatten(0, -2)

    def hook_of(name: str) -> torch.utils.hooks.RemovableHandle:
        return model.get_submodule(name).register_forward_hook(lambda module, args, output: keep(name, output))

    handles = [hook_of(name) for name in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _matched(potentials: Tensor, sums: Tensor) -> tuple[int, ...] | None:
    """The column [rows, F] of which each neuron [rows, N] is a multiple; None where one is of none, or of several."""
    if len(potentials) != len(sums) or len(sums) < LEAST_ROWS:
        return None
    cosines = nn.functional.normalize(potentials, dim=0).T @ nn.functional.normalize(sums, dim=0)
    if not ((cosines > EQUAL).sum(1) == 1).all():
        return None
    columns = tuple(cosines.argmax(1).tolist())
    return columns if len({*columns}) == len(columns) else None
