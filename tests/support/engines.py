"""Windows of populations on each engine: torch, the kernels of a processor, those of a GPU as a processor runs them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from extreme_inputs import CHANNELS, NORMAL, OUTLIER, same
from torch import Tensor

from las_sj.neurons import FanOut, MTNode, OATNode, WindowNode
from las_sj.neurons.kernels import cuda, host

ENGINES = ("host", "emulated")  # the latter where `emulated_gpu.launch` takes the place of `cuda._launch`


def threshold_node(kind: str, settings: dict[str, Any]) -> MTNode | OATNode:
    channels = torch.tensor(CHANNELS)
    makers: dict[str, Callable[[], MTNode | OATNode]] = {
        "mt": lambda: MTNode(NORMAL, **settings),
        "mt-channel": lambda: MTNode(channels, **settings),
        "oat": lambda: OATNode(NORMAL, OUTLIER, **settings),
        "oat-channel": lambda: OATNode(channels, OUTLIER, **settings),
    }
    return makers[kind]()


@dataclass
class Ran:
    """All that a window gives."""

    emitted: Tensor
    membrane: Tensor
    kept: Tensor  # spikes of each neuron, with flags of outliers
    beyond: int
    totals: tuple[int, int]  # spikes and outliers, where not each is wanted


def run_on(engine: str, node: WindowNode, currents: Tensor, as_train: bool) -> Ran:
    """A window on "torch", "host" or "emulated"."""
    node = copy.deepcopy(node)
    node.count_spikes = True
    membranes: list[Tensor] = []
    node.recorder = lambda _, record: membranes.append(record.potential)
    emitted = [_emitted(engine, node, currents, None, as_train=as_train)]
    assert node.counts.last is not None
    kept, beyond = node.counts.last.kept, node.out_of_range
    assert kept is not None
    emitted.append(_emitted(engine, node, currents, FanOut(), as_train=as_train))
    assert same(*emitted)
    assert node.counts.last.kept is None
    spikes, outliers = node.counts.last.totals()
    node.recorder = None
    if engine == "emulated":  # faster kernels, which serve whoever wants neither membranes nor the spikes of each
        for node.count_spikes in (True, False):
            node.reset_counts()
            assert same(emitted[0], _emitted(engine, node, currents, FanOut(), as_train=as_train))
            assert node.out_of_range == beyond
            assert node.counts.last is None or tuple(map(int, node.counts.last.totals())) == (
                int(spikes),
                int(outliers),
            )
    return Ran(emitted[0], membranes[0], kept, beyond, (int(spikes), int(outliers)))


def _emitted(engine: str, node: WindowNode, currents: Tensor, fan_out: FanOut | None, *, as_train: bool) -> Tensor:
    if engine != "torch":
        return node.population.fire_by_kernels(
            host if engine == "host" else cuda, currents, fan_out, as_train=as_train
        )[1]
    computed_in = torch.promote_types(currents.dtype, torch.float32)
    v = currents[0].to(computed_in, copy=True)
    for step in currents[1:]:
        v += step
    node.backend = "torch"
    return node.population.fire(v, fan_out=fan_out, as_train=as_train).to(currents.dtype)


def assert_same(found: Ran, expected: Ran) -> None:
    assert same(found.emitted, expected.emitted)
    assert same(found.membrane, expected.membrane)
    assert torch.equal(found.kept, expected.kept)
    assert found.beyond == expected.beyond
    assert found.totals == expected.totals
