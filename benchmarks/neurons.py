"""Populations alone: elements per second, and how close that is to copying the same memory.

    python benchmarks/neurons.py [--shape 8 128 3072] [--time-steps 16]

Currents [T, ...] to trains [T, ...] (step mode "m") and sums to sums ("s"), on each backend there is, beside
SpikingJelly's OutlierAwareThresholdNode, HGNode and FewSpikeNode with the same tables. Theirs are binary and truncate,
as "floor" with one level does; our default, nearest with 15 levels, is a row more. That both emit the same is checked
first, but for inputs within rounding of a threshold, and beyond the core of an HG function. Medians of calls taken in
turn; all run with freed memory kept (`las_sj.memory`), so that nobody pays for page faults.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import neuron as sj
from timing import in_turn, machine, print_header, print_row
from torch import Tensor

from las_sj.memory import keep_freed_memory
from las_sj.neurons import HGNode, OATNode, WindowNode
from las_sj.neurons.fitting import GridFit

NORMAL, OUTLIER = 2.0, 24.0
Calls = dict[str, Callable[[], object]]


def table_of(theta: float, time_steps: int, device: str) -> sj.FewSpikeTable:
    """Binary thresholds θ·2^-t."""
    steps = theta * torch.exp2(-torch.arange(1.0, time_steps + 1)).to(device)
    return sj.FewSpikeTable(steps, steps, steps)


def spikingjelly_oat(time_steps: int, device: str) -> torch.nn.Module:
    """With the thresholds of `ours`."""
    tables = (table_of(theta, time_steps, device) for theta in (NORMAL, OUTLIER))
    return sj.OutlierAwareThresholdNode(*tables, split_threshold=NORMAL, step_mode="m")


def spikingjelly_hg(node: HGNode, device: str) -> torch.nn.Module:
    """A table for each sub-neuron of ours; a first step that always fires takes x to the sub-range's start."""
    assert isinstance(node._fit, GridFit)
    lines, steps = node._fit.lines, torch.exp2(-torch.arange(1.0, node.time_steps + 1))
    tables = []
    for start, width, bias, amplitude in zip(
        *(lines.start - lines.shift, lines.width, lines.bias, lines.amplitude), strict=True
    ):
        digits = width * steps
        theta = torch.cat([digits.new_tensor([-1e30]), digits])
        reset, weight = torch.cat([start.view(1), digits]), torch.cat([bias.view(1), amplitude * steps])
        tables.append(sj.FewSpikeTable(*(column.float().to(device) for column in (theta, reset, weight))))
    gates = (lines.start[1:] - lines.shift[1:]).float().to(device)
    return sj.HGNode(tables, gates, step_mode="m")


def backends(device: str) -> tuple[str, ...]:
    """Those that work on a device."""
    return ("torch", "cupy") if device == "cuda" else ("torch", "host")


def calls_of(node: WindowNode, title: str, x_seq: Tensor, device: str) -> Calls:
    """Our node: trains on each backend, trains into a buffer that is used again, sums."""
    calls: Calls = {}
    buffer = x_seq.new_empty((node.time_steps, *x_seq.shape[1:]))
    x = x_seq.sum(0)

    def run(backend: str, mode: str) -> object:
        node.backend, node.step_mode = backend, mode
        return node(x_seq if mode == "m" else x)

    def run_into_buffer(backend: str) -> object:
        node.backend = backend
        return node.train_from(x_seq, out=buffer)

    for backend in backends(device):
        calls[f"{title}, {backend}"] = lambda backend=backend: run(backend, "m")  # type: ignore[misc]
    fast = backends(device)[-1]
    calls[f"{title}, {fast}, buffer used again"] = lambda: run_into_buffer(fast)
    calls[f"{title}, {fast}, sums (s)"] = lambda: run(fast, "s")
    return calls


def check(found: Tensor, expected: Tensor, share: float, title: str) -> None:
    """Raise unless all but a small share of the elements agree."""
    differing = float((~torch.isclose(found, expected, rtol=1e-3, atol=1e-4)).float().mean())
    if differing > share:
        raise SystemExit(f"{title}: {differing:.1e} of the elements differ")


@dataclass(frozen=True)
class Setting:
    """What all populations of a run share.

    Attributes:
        x_seq: currents [T, ...].
        bandwidth: bytes read and written in a second, of a copy.
        rounds: calls of each.
    """

    x_seq: Tensor
    bandwidth: float
    rounds: int

    @property
    def device(self) -> str:
        return self.x_seq.device.type

    @property
    def time_steps(self) -> int:
        return len(self.x_seq)


def print_table(calls: Calls, reference: str, setting: Setting) -> None:
    """Rows of all calls; those that return trains with their ratio to the one called `reference`."""
    times = in_turn(calls, setting.rounds)
    elements, moved = setting.x_seq[0].numel(), 2 * setting.x_seq.nbytes
    for title, taken in times.items():
        returns_sums = title.endswith("(s)")
        seconds, bytes_moved = taken.median, moved // setting.time_steps if returns_sums else moved
        print_row(
            [
                title,
                f"{1e3 * seconds:.1f}",
                f"{1e3 * taken.spread:.1f}",
                f"{1e9 * seconds / elements:.2f}",
                f"{elements / seconds:.2e}",
                f"{bytes_moved / seconds / setting.bandwidth:.2f}",
                "" if returns_sums else f"{times[reference].median / seconds:.1f}",
            ]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[8, 128, 3072])
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    keep_freed_memory()
    steps = arguments.time_steps
    torch.manual_seed(0)
    one_step = torch.randn(arguments.shape) * 2 / steps
    x_seq = one_step.expand(steps, *arguments.shape).contiguous().to(arguments.device)
    target = torch.empty_like(x_seq)
    seconds = in_turn({"copy": lambda: target.copy_(x_seq)}, arguments.rounds)["copy"].median
    setting = Setting(x_seq, 2 * x_seq.nbytes / seconds, arguments.rounds)
    print(f"{machine()}, [{steps}, {', '.join(map(str, arguments.shape))}], fp32")
    print(f"copying the currents: {1e3 * seconds:.1f} ms, {setting.bandwidth / 1e9:.1f} GB/s read and written\n")
    columns = ["population", "median ms", "spread ms", "ns per element", "elements per second", "of copy bandwidth"]
    print_header([*columns, "× faster than SpikingJelly"])
    oat_table(setting)
    for function in ("gelu", "exp"):
        hg_table(function, setting)


@torch.no_grad()
def oat_table(setting: Setting) -> None:
    """OAT neurons beside SpikingJelly's."""
    steps, x_seq, device = setting.time_steps, setting.x_seq, setting.device
    theirs = spikingjelly_oat(steps, device)
    same = OATNode(NORMAL, OUTLIER, steps, 1, "floor", step_mode="m").to(device)
    check(same(x_seq).sum(0), theirs(x_seq).sum(0), 1e-3, "OAT")
    few = sj.FewSpikeNode(table_of(NORMAL, steps, device), step_mode="m")
    calls: Calls = {"SpikingJelly OAT": lambda: theirs(x_seq), "SpikingJelly FewSpike": lambda: few(x_seq)}
    calls |= calls_of(same, "OAT, one level, floor", x_seq, device)
    calls |= calls_of(OATNode(NORMAL, OUTLIER, steps, 15).to(device), "OAT, 15 levels, nearest", x_seq, device)
    print_table(calls, "SpikingJelly OAT", setting)


@torch.no_grad()
def hg_table(function: str, setting: Setting) -> None:
    """HG neurons of a function beside SpikingJelly's."""
    node = HGNode(function, setting.time_steps, step_mode="m").to(setting.device)
    x_seq = -setting.x_seq.abs() if function == "exp" else setting.x_seq
    theirs = spikingjelly_hg(node, setting.device)
    # A step more: the one that takes x to the start of the sub-range.
    padded = torch.cat([x_seq, torch.zeros_like(x_seq[:1])])
    check(node(x_seq).sum(0), theirs(padded).sum(0), 1e-2, function)
    calls: Calls = {f"SpikingJelly HG, {function}": lambda: theirs(padded)}
    calls |= calls_of(node, f"HG, {function}", x_seq, setting.device)
    print_table(calls, f"SpikingJelly HG, {function}", setting)


if __name__ == "__main__":
    main()
