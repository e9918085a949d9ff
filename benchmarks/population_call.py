"""What a call of a population costs beyond its kernel: nodes and layers on tensors so small that nothing else counts.

    python benchmarks/population_call.py [--device cpu]

Median microseconds of a call, of sums (step mode "s") and of trains ("m", T = 16): the kernel's own two to ten are in
them. On a GPU, where a call returns before its kernel ends, the time until it returns. Nobody watches, and no gradient
flows.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from timing import machine, print_header, print_row
from torch import Tensor

from las_sj.neurons import HGNode, MTNode, OATNode, WindowNode, fused

STEPS = 16
CHANNELS = 8


def populations() -> dict[str, WindowNode]:
    """One of each kind."""
    return {
        "MT": MTNode(4.0, STEPS, 15),
        "OAT": OATNode(1.0, 4.0, STEPS, 15),
        "HG, gelu": HGNode("gelu", STEPS),
        "HG, square": HGNode("square", STEPS),
    }


def layers(device: str, step_mode: str) -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
    """Norms, softmax and gated products, each in one kernel."""
    names = ("square", "rsqrt", "exp", "reciprocal", "silu")
    hg = {name: HGNode(name, STEPS, step_mode=step_mode).to(device) for name in names}
    code = [OATNode(1.0, 4.0, STEPS, 15, step_mode=step_mode).to(device) for _ in range(3)]
    as_train = step_mode == "m"
    x = torch.randn(STEPS if as_train else 1, 2, CHANNELS, device=device) / 4
    gains = torch.ones(CHANNELS, device=device)
    of_norm = (code[0], hg["square"], hg["rsqrt"], code[1], code[2])
    of_softmax = (hg["exp"], code[0], hg["reciprocal"], code[1], code[2])
    of_product = (hg["silu"], code[0], code[1])
    yield "norm", lambda: fused.norm(of_norm, x, gains, None, 1e-6, centres=False, as_train=as_train)
    yield "softmax", lambda: fused.softmax(of_softmax, x, None, as_train=as_train)
    yield "gated product", lambda: fused.gated_product(of_product, x, x, as_train=as_train)


def calls(device: str, step_mode: str) -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
    """Every call that is measured, by its name."""
    shape = (STEPS, 1, CHANNELS) if step_mode == "m" else (1, CHANNELS)
    x = torch.randn(shape, device=device) / 4
    for name, node in populations().items():
        node.to(device).step_mode = step_mode
        yield name, lambda node=node: node(x)  # type: ignore[misc]
    yield from layers(device, step_mode)


def microseconds(call: Callable[[], object], rounds: int) -> float:
    """The median of the time that a call takes until it returns."""
    for _ in range(20):
        call()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return statistics.median(taken) / 1e3


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=3000)
    arguments = parser.parse_args()
    print(f"{machine(arguments.device)}\n")
    print_header(["call", "sums, µs", "trains, µs"])
    of_sums, of_trains = (dict(calls(arguments.device, mode)) for mode in ("s", "m"))
    for name, call in of_sums.items():
        print_row([name, *(f"{microseconds(each, arguments.rounds):.1f}" for each in (call, of_trains[name]))])


if __name__ == "__main__":
    main()
