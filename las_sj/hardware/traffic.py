"""Who sends how many messages in which step: counted by core and time step while a model runs in time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device
from las_sj.hardware.connection import Trains
from las_sj.hardware.placement import NeuronSlice, Placement
from las_sj.hardware.windows import rows_of, windows_seen
from las_sj.models import running
from las_sj.neurons import WindowNode, WindowRecord

Counts = NDArray[np.float64]


@dataclass
class Traffic:
    """What was counted.

    Attributes:
        monitor: spikes of the same calls, by site.
        tokens: rows that took their turn: tokens of text, or patches of images.
        time_steps: T of each.
        messages: sent by each slice of neurons, in the order of the placement. A bias that an HG neuron emits at step 1
            is a message too.
        by_population: the same by population.
        trains: of populations that feed weights, bool [tokens·T, C], where they were kept.
    """

    monitor: SpikeMonitor
    tokens: int
    time_steps: int
    messages: NDArray[np.int64]
    by_population: dict[str, int]
    trains: dict[str, Trains]


def count_traffic(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    placement: Placement,
    each_call: Callable[[SpikeMonitor, Counts], None] = lambda monitor, counts: None,
    keep_trains: bool = False,
) -> Traffic:
    """Run a converted model in time, and count messages by slice of neurons and step.

    Tokens come one after the other, each for T steps. A population with fewer or more rows than tokens, as a pooled one
    or that of an encoder, has them spread over the same time. Memory does not depend on the number of calls.

    Args:
        model: a converted model.
        batches: dicts of keyword arguments.
        placement: says which neurons lie together.
        each_call: is given the monitor and the messages of each call, [slices, tokens·T], in the order of
            `placement.neurons`.
        keep_trains: whether to keep trains of populations that feed weights, for a replay.
    """
    slices = _by_population(placement)
    totals = np.zeros(len(placement.neurons), dtype=np.int64)
    tokens = 0
    with torch.no_grad(), running(model, "temporal"), SpikeMonitor(model, sample=1) as monitor:
        feeding = {each.name for each in placement.populations if each.layers} if keep_trains else set()
        call = _Call(monitor, slices, feeding)
        with windows_seen(monitor, call.add):
            for batch in tqdm(batches, desc="counting messages", unit="call", leave=False):
                before = monitor.tokens
                model(**to_device(batch, input_device(model)))
                counts = call.take(monitor.tokens - before, monitor.time_steps)
                totals += counts.sum(1).round().astype(np.int64)
                tokens += counts.shape[1] // monitor.time_steps
                each_call(monitor, counts)
    by_population = {name: int(totals[[index for index, _ in found]].sum()) for name, found in slices.items()}
    trains = {name: np.concatenate(parts) for name, parts in call.trains.items()}
    return Traffic(monitor, tokens, monitor.time_steps, totals, by_population, trains)


def _by_population(placement: Placement) -> dict[str, list[tuple[int, NeuronSlice]]]:
    """Numbers and slices of each population, by name."""
    slices: dict[str, list[tuple[int, NeuronSlice]]] = {}
    for index, piece in enumerate(placement.neurons):
        slices.setdefault(piece.population, []).append((index, piece))
    return slices


class _Call:
    """Messages of one call, window by window.

    Args:
        monitor: knows which neurons take part.
        slices: numbers and slices of each population.
        feeding: populations whose trains are kept.
    """

    def __init__(
        self, monitor: SpikeMonitor, slices: dict[str, list[tuple[int, NeuronSlice]]], feeding: set[str]
    ) -> None:
        self.monitor = monitor
        self.slices = slices
        self.feeding = feeding
        self.trains: dict[str, list[Trains]] = {}
        self.found: dict[str, Tensor] = {}

    def add(self, name: str, node: WindowNode, record: WindowRecord) -> None:
        """Count one window; a call may have several of a site, of a part of the heads each."""
        if name not in self.slices:
            return
        train = (record.emitted if record.spikes is None else record.spikes).detach()
        fired = torch.ne(train, 0, out=torch.empty_like(train, dtype=torch.float32))  # sums of floats are fast
        live = self.monitor.live_of(record)
        if live is not None:
            fired *= live.mask
        if name in self.feeding:  # step after step of one token, then of the next
            rows = by_row(fired).transpose(0, 1).flatten(0, 1)
            self.trains.setdefault(name, []).append(rows.bool().cpu().numpy())
        counts = messages_of(fired, [piece.neurons[1] for _, piece in self.slices[name]])
        before = self.found.get(name)
        if before is None:
            self.found[name] = counts
        elif before.shape == counts.shape:  # another part of the heads
            self.found[name] = before + counts
        else:  # other rows, as where a call runs a layer more than once
            self.found[name] = torch.cat([before, counts], dim=1)

    def take(self, tokens: int, time_steps: int) -> Counts:
        """Messages [slices, tokens·T] of the call, whose counts begin anew.

        Args:
            tokens: of the call; 0 where it has none, and the longest population tells.
            time_steps: T.
        """
        columns = tokens or max((counts.shape[1] for counts in self.found.values()), default=0)
        taken = np.zeros((sum(map(len, self.slices.values())), columns * time_steps))
        for name, counts in self.found.items():
            numbers = [index for index, _ in self.slices[name]]
            taken[numbers] = spread(counts.cpu().numpy(), columns).reshape(len(numbers), -1)
        self.found = {}
        return taken


def by_row(fired: Tensor) -> Tensor:
    """The neurons of one row after the other, [T, B·S, N].

    Args:
        fired: [T, B, ..., S, C], or [T, B, C] of what has one row for each sequence.
    """
    rows = _wide(fired).movedim(3, 2).flatten(3).flatten(1, 2)
    assert rows.shape[1] == rows_of(fired.shape[1:])
    return rows


def _wide(fired: Tensor) -> Tensor:
    """[T, B, M, S, C], whatever the dimensions between sequences and rows are."""
    if fired.dim() < 4:
        rows = fired if fired.dim() == 3 else fired.unsqueeze(-1)
        return rows[:, :, None, None]
    return fired.flatten(2, -3) if fired.dim() > 4 else fired.unsqueeze(2)


def messages_of(fired: Tensor, ends: list[int]) -> Tensor:
    """Messages by step, row and slice of neurons, int64 [T, B·S, slices].

    Args:
        fired: 1 or 0, fp32 [T, B, ..., S, C], or [T, B, C] of what has one row for each sequence.
        ends: where each slice of one row's neurons ends. Where a call has more or fewer neurons in a row than were
            placed, as with another context, slices have their share of them.
    """
    wide = _wide(fired)
    parts, channels = wide.shape[2], wide.shape[-1]
    borders = [0, *(round(end * parts * channels / ends[-1]) for end in ends)]
    member = wide.new_zeros(parts * channels, len(ends))
    for number, (start, end) in enumerate(pairwise(borders)):
        member[start:end, number] = 1
    members = member.view(parts, channels, len(ends))
    counts = sum((wide[:, :, part] @ members[part] for part in range(parts)), wide.new_zeros(()))
    return counts.flatten(1, 2).round().long()


def spread(counts: NDArray[np.int64], columns: int) -> Counts:
    """Rows of a population over the tokens of a call, nothing lost: [T, R, slices] to [slices, columns, T]."""
    steps, rows, slices = counts.shape
    moved = np.moveaxis(counts, (0, 1, 2), (2, 1, 0)).astype(np.float64)
    if rows == columns:
        return moved
    if rows < columns:  # each row fires in the tokens that it stands for, in equal parts
        repeats = np.diff(np.linspace(0, columns, rows + 1).round().astype(int))
        return np.repeat(moved / repeats[None, :, None], repeats, axis=1)
    taken = np.zeros((slices, columns, steps))
    for row, column in enumerate(np.arange(rows) * columns // rows):
        taken[:, column] += moved[:, row]
    return taken
