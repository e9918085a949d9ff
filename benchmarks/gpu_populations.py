"""Populations and whole layers on a GPU: milliseconds, and the share of the bandwidth of a copy of the same bytes.

    python benchmarks/gpu_populations.py [--elements 33554432]

Sums of windows ("s"), trains of currents ("m", T steps in and out) and layers with all of their populations, in fp32
and bf16. A row is the median of 20 calls, timed by events on the GPU; calls are queued behind a pause, so that what
they cost on the processor does not count. A copy reads and writes as many bytes as a call does.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from las_sj.neurons import HGNode, OATNode, WindowNode, fused
from las_sj.neurons.kernels import cuda

TIME_STEPS, ROUNDS, WARM_UP = 16, 20, 3
CHANNELS, KEYS = 2048, 512
PAUSE = 40_000_000  # cycles, longer than it takes to queue all calls
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the population or layer.
        what: "sum", "train", "layer", or "layer train".
        dtype: of inputs and outputs.
        elements: how many neurons the first population has.
        copy_ms, ms: of a copy of the same bytes, and of a call.
    """

    name: str
    what: str
    dtype: str
    elements: int
    copy_ms: float
    ms: float

    @property
    def share(self) -> float:
        """Of the copy's bandwidth."""
        return self.copy_ms / self.ms


@torch.no_grad()
def milliseconds(call: Callable[[], object], device: str) -> float:
    """The median of some calls."""
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize(device)
    torch.cuda._sleep(PAUSE)
    ends = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(ROUNDS)]
    for start, end in ends:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return statistics.median(start.elapsed_time(end) for start, end in ends)


def copy_milliseconds(elements: int, dtype: torch.dtype, device: str) -> float:
    """Of reading and writing so many numbers."""
    source = torch.zeros(elements, dtype=dtype, device=device)
    target = torch.empty_like(source)
    return milliseconds(lambda: target.copy_(source), device)


def populations() -> dict[str, tuple[Callable[[], WindowNode], bool]]:
    """Populations by name, and whether their inputs are negative."""
    return {
        "OAT 15 nearest": (lambda: OATNode(2.0, 32.0, TIME_STEPS, 15), False),
        "OAT 1 floor": (lambda: OATNode(2.0, 32.0, TIME_STEPS, 1, "floor"), False),
        "HG gelu": (lambda: HGNode("gelu", TIME_STEPS, -30.0, 30.0), False),
        "HG exp": (lambda: HGNode("exp", TIME_STEPS), True),
        "HG square": (lambda: HGNode("square", TIME_STEPS), False),
    }


def population_rows(elements: int, device: str) -> Iterator[Row]:
    """Sums and trains of each population."""
    for dtype in DTYPES:
        for steps in (1, TIME_STEPS):
            x = torch.randn(steps, elements, dtype=dtype, device=device).mul_(2 / steps**0.5)
            out = torch.empty((steps, elements) if steps > 1 else (elements,), dtype=dtype, device=device)
            copy = milliseconds(lambda out=out, x=x: out.copy_(x.view_as(out)), device)  # type: ignore[misc]
            for name, (make, is_negative) in populations().items():
                if is_negative:
                    x.abs_().neg_()
                neurons = make().to(device).population.structure(x)
                as_train = TIME_STEPS if steps > 1 else None
                ms = milliseconds(
                    lambda out=out, x=x, neurons=neurons, as_train=as_train: cuda.emit(  # type: ignore[misc]
                        neurons, x, as_train, False, None, False, out
                    ),
                    device,
                )
                yield Row(name, "train" if steps > 1 else "sum", _name(dtype), elements, copy, ms)
                if is_negative:
                    x.normal_().mul_(2 / steps**0.5)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _oats(mode: str, *thresholds: tuple[float, float]) -> list[OATNode]:
    return [OATNode(normal, outlier, TIME_STEPS, 15, step_mode=mode) for normal, outlier in thresholds]


def _hgs(mode: str, *names: str) -> list[HGNode]:
    nodes = [HGNode(name, TIME_STEPS, step_mode=mode) for name in names]
    for node in nodes:
        if node.function.name == "silu":
            node.set_range(-30.0, 40.0)
    return nodes


Layers = dict[str, tuple[list[WindowNode], Callable[[Tensor, bool], Tensor | None], float]]


def layers(mode: str, like: Tensor) -> Layers:
    """Each layer's populations, its call for currents [S, N], and half of the numbers that it moves for each."""
    dtype, device = like.dtype, like.device
    centred, scale, output = _oats(mode, (2.0, 32.0), (1.0, 8.0), (2.0, 64.0))
    weight, inverse, probability = _oats(mode, (0.125, 1.5), (0.05, 1.5), (0.05, 1.5))
    gate, up = _oats(mode, (1.0, 32.0), (1.0, 32.0))
    square, rsqrt, exponential, reciprocal, silu = _hgs(mode, "square", "rsqrt", "exp", "reciprocal", "silu")
    ups, gains = torch.randn_like(like), torch.randn(CHANNELS, dtype=dtype, device=device)
    least = torch.finfo(dtype).min
    mask = torch.full((KEYS, KEYS), least, dtype=dtype, device=device).triu(1)
    of_norm, of_softmax = (
        (centred, square, rsqrt, scale, output),
        (exponential, weight, reciprocal, inverse, probability),
    )

    def norm(x: Tensor, as_train: bool) -> Tensor | None:
        rows = x.view(len(x), -1, CHANNELS)
        return fused.norm(of_norm, rows, gains, None, 1e-5, centres=False, as_train=as_train)

    def softmax(x: Tensor, as_train: bool) -> Tensor | None:
        return fused.softmax(of_softmax, x.view(len(x), -1, KEYS, KEYS), mask, as_train=as_train)

    def gated(x: Tensor, as_train: bool) -> Tensor | None:
        return fused.gated_product((silu, gate, up), x, ups, as_train=as_train)

    return {
        "RMSNorm": ([*of_norm], norm, 1.0),
        "causal softmax": ([*of_softmax], softmax, 1.0),
        "gated SiLU": ([silu, gate, up], gated, 1.5),
    }


def layer_rows(elements: int, device: str) -> Iterator[Row]:
    """Sums of each layer at full size, and trains of an eighth."""
    for dtype in DTYPES:
        for mode, size, steps in (("s", elements, 1), ("m", elements // 8, TIME_STEPS)):
            x = torch.randn(steps, size, dtype=dtype, device=device).mul_(2 / steps**0.5)
            for name, (nodes, call, moved) in layers(mode, x).items():
                for node in nodes:
                    node.to(device)
                as_train = mode == "m"
                assert call(x, as_train) is not None, f"{name} does not run in one kernel"
                ms = milliseconds(lambda call=call, x=x, as_train=as_train: call(x, as_train), device)  # type: ignore[misc]
                copy = copy_milliseconds(int(moved * x.numel()), dtype, device)
                yield Row(name, "layer train" if as_train else "layer", _name(dtype), size, copy, ms)


def rows(elements: int = 1 << 25, device: str = "cuda") -> list[Row]:
    """The whole table.

    Args:
        elements: neurons of a population; a multiple of 8·512·512.
        device: a GPU's.
    """
    return [*population_rows(elements, device), *layer_rows(elements, device)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 25)
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, T = {TIME_STEPS}")
    print("| population | what | type | elements | copy ms | ms | share |\n| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows(arguments.elements):
        figures = f"{row.elements / 1e6:.1f}M | {row.copy_ms:.4f} | {row.ms:.4f} | {row.share:.2f}"
        print(f"| {row.name} | {row.what} | {row.dtype} | {figures} |")


if __name__ == "__main__":
    main()
