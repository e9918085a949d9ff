"""A bounded sample of whole spike trains, packed into bits, and the file it is exported to."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from las_sj.neurons import ThresholdNode, WindowNode, WindowRecord
from las_sj.neurons.rate_coded import RateCodedNode

FORMAT_VERSION = 2  # 1: amplitudes halved at each step at all sites
_PER_WINDOW = 64

Array = np.ndarray[Any, Any]


class TrainFileError(ValueError):
    """A file of spike trains cannot be read; the message says why."""


@dataclass(frozen=True)
class Trains:
    """Spike trains of N neurons of one site, each of one window.

    Attributes:
        fired, negative: bool [T, N].
        level: j of spikes with amplitude θ(t)(1 + j/n), uint8 [T, N]; 0 where nothing fired.
        levels: n.
        alpha: base threshold (neurons that code) or output weight (HG neurons) of each, fp32 [N]: θ(t) = α·2^-t.
            Of quantised activations, what each spike carries.
        bias: what the neuron emits at step 1 besides its spikes, fp32 [N]; 0 for neurons that code.
        outlier: whether the outlier sub-neuron fired, bool [N].
        index, window: which neuron of its window's tensor (flattened), and the number of the window; int64 [N].
        halves: whether a spike carries half of what one carries a step earlier; else θ(t) = α.
    """

    fired: Array
    negative: Array
    level: Array
    levels: int
    alpha: Array
    bias: Array
    outlier: Array
    index: Array
    window: Array
    halves: bool = True

    def values(self) -> Array:
        """What was emitted, fp32 [T, N]."""
        step = np.exp2(-np.arange(1, len(self.fired) + 1, dtype=np.float32) * self.halves)[:, None]
        sign = np.where(self.negative, -1.0, 1.0) * self.fired
        values = sign * (1 + self.level / self.levels) * step * self.alpha
        values[0] += self.bias
        return values.astype(np.float32)


class TrainSample:
    """Keeps the trains of up to `limit` neurons of each site.

    64 of each window, drawn at random with a fixed seed, until there are enough. Sites of LAS in which each channel has
    a threshold of its own are left out.

    A train takes 2 + ⌈log2(n+1)⌉ bits a time step.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: dict[str, list[dict[str, Array]]] = {}
        self._windows: dict[str, int] = {}
        self._nodes: dict[str, WindowNode | RateCodedNode] = {}
        self._generator = torch.Generator().manual_seed(0)

    def add(self, name: str, node: WindowNode | RateCodedNode, record: WindowRecord, live: Tensor | None) -> None:
        """Draw from one window of the site `name`.

        Args:
            name: of the site.
            node: its neurons.
            record: of the window.
            live: which neurons count, broadcastable to [B, ...]; None: all.
        """
        v = record.potential.detach()
        window = self._windows[name] = self._windows.get(name, -1) + 1
        room = self.limit - sum(len(part["index"]) for part in self._parts.get(name, []))
        if room <= 0 or not v.numel() or getattr(node, "per_channel", False):
            return
        chosen = torch.arange(v.numel()) if live is None else live.expand(v.shape).reshape(-1).nonzero()[:, 0].cpu()
        picked = torch.randperm(len(chosen), generator=self._generator)[: min(room, _PER_WINDOW)].sort().values
        index = chosen[picked]
        self._nodes[name] = node
        self._parts.setdefault(name, []).append(_pack(node, record, index, window))

    def trains(self) -> dict[str, Trains]:
        """The trains, by site."""
        return {name: _unpack(_joined(parts), **self._settings(name)) for name, parts in self._parts.items()}

    def _settings(self, name: str) -> dict[str, Any]:
        """What all trains of a site share."""
        node = self._nodes[name]
        return {"levels": _levels(node), "halves": node.amplitudes_halve}

    def save(self, path: Path) -> None:
        """Write an npz file; `load_trains` reads it.

        For each site, named `site/field`: fired, negative (bits packed along the neurons, uint8 [T, ⌈N/8⌉]), level
        (bit planes, lowest first, uint8 [planes, T, ⌈N/8⌉]), alpha, bias (fp32 [N]), outlier (bool [N]), index, window
        (int64 [N]). The entry "header" is JSON: format version, and n, N and `halves` of each site.
        """
        sites = {name: _joined(parts) for name, parts in self._parts.items()}
        header = {
            "format_version": FORMAT_VERSION,
            "sites": {name: {**self._settings(name), "neurons": len(entry["index"])} for name, entry in sites.items()},
        }
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
        for name, entry in sites.items():
            arrays |= {f"{name}/{field}": array for field, array in _to_bits(entry, _levels(self._nodes[name])).items()}
        partial = path.with_name(f".{path.name}.partial.npz")
        try:
            np.savez_compressed(partial, **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def load_trains(path: Path) -> dict[str, Trains]:
    """Read what `TrainSample.save` wrote.

    Raises:
        TrainFileError: it is not such a file, or of a newer format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            version = header["format_version"]
            if version > FORMAT_VERSION:
                raise TrainFileError(f"{path} has format version {version}, this las_sj reads 1…{FORMAT_VERSION}")
            return {
                name: _unpack(
                    _from_bits(file, name, entry["neurons"]), entry["levels"], bool(entry.get("halves", True))
                )
                for name, entry in header["sites"].items()
            }
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, TrainFileError):
            raise
        raise TrainFileError(f"{path} holds no spike trains: {error}") from None


def _levels(node: WindowNode | RateCodedNode) -> int:
    return node.code.levels if isinstance(node, ThresholdNode) else 1


def _pack(node: WindowNode | RateCodedNode, record: WindowRecord, index: Tensor, window: int) -> dict[str, Array]:
    if record.spikes is None:
        v = record.potential.detach().reshape(-1)[index.to(record.potential.device)]
        return _packed(node, v, node.spikes_of(v), node.spike_scale(v), index, window)
    assert record.scale is not None
    place = index.to(record.spikes.device)
    alpha = record.scale.expand(record.potential.shape).reshape(-1)[place]
    spikes = record.spikes.flatten(1)[:, place].to(torch.int16)
    return _packed(node, alpha, spikes, (alpha, torch.zeros_like(alpha)), index, window)


def _packed(
    node: WindowNode | RateCodedNode,
    v: Tensor,
    spikes: Tensor,
    scale: tuple[Tensor, Tensor],
    index: Tensor,
    window: int,
) -> dict[str, Array]:
    alpha, bias = scale
    outliers = getattr(node, "outliers", None)
    fired = spikes != 0
    return {
        "fired": fired.cpu().numpy(),
        "negative": (spikes < 0).cpu().numpy(),
        "level": (spikes.abs() - _levels(node)).mul_(fired).to(torch.uint8).cpu().numpy(),
        "alpha": alpha.float().cpu().numpy(),
        "bias": bias.float().cpu().numpy(),
        "outlier": (torch.zeros_like(v, dtype=torch.bool) if outliers is None else outliers(v)).cpu().numpy(),
        "index": index.numpy(),
        "window": np.full(len(index), window),
    }


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {field: np.concatenate([part[field] for part in parts], axis=-1) for field in parts[0]}


def _unpack(entry: dict[str, Array], levels: int, halves: bool) -> Trains:
    return Trains(levels=levels, halves=halves, **entry)


def _to_bits(entry: dict[str, Array], levels: int) -> dict[str, Array]:
    planes = [np.packbits((entry["level"] >> bit) & 1, axis=-1) for bit in range(levels.bit_length())]
    packed = {field: np.packbits(entry[field], axis=-1) for field in ("fired", "negative")}
    return entry | packed | {"level": np.stack(planes)}


def _from_bits(file: Any, name: str, neurons: int) -> dict[str, Array]:
    fields = ("alpha", "bias", "outlier", "index", "window")
    entry = {field: file[f"{name}/{field}"] for field in fields}
    for field in ("fired", "negative"):
        entry[field] = np.unpackbits(file[f"{name}/{field}"], axis=-1, count=neurons).astype(bool)
    planes = np.unpackbits(file[f"{name}/level"], axis=-1, count=neurons)
    weights = (1 << np.arange(len(planes), dtype=np.uint8))[:, None, None]
    return entry | {"level": (planes * weights).sum(0, dtype=np.uint8)}
