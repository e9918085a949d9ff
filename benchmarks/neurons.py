"""Populations alone: elements per second, and how close that is to copying the same memory.

    python benchmarks/neurons.py [--shape 8 128 3072] [--time-steps 16]

Currents [T, ...] to trains [T, ...] (step mode "m") and sums to sums ("s"), on each backend there is, beside
SpikingJelly's OutlierAwareThresholdNode, HGNode and FewSpikeNode with the same tables. Theirs are binary and truncate,
as "floor" with one level does; our default, nearest with 15 levels, is a row more. Checked first, in fp32: OAT trains
are equal to the last bit on every backend (thresholds are powers of two, currents multiples of 2^-20), the sums of HG
trains within 1e-5 in the core of the function, beyond which SpikingJelly's first and last tables end. SpikingJelly's
HGNode takes a step more than ours, which brings its input to the start of a sub-range. FewSpikeNode, which knows no
signs and no outliers, is timed only. Copies of the currents and of their sum are among the calls that take turns: a
population that returns trains is compared with a copy of trains, one that returns sums with a copy of sums.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import neuron as sj
from timing import in_turn, machine, milliseconds, print_header, print_row
from torch import Tensor

from las_sj.neurons import HGNode, OATNode, WindowNode
from las_sj.neurons.fitting import GridFit
from las_sj.neurons.functions import GridFunction
from las_sj.neurons.kernels import cuda, host

NORMAL, OUTLIER = 2.0, 32.0
GRAIN = 2.0**20  # currents are multiples of its inverse, so that their sums are exact in any order
SUMS = ", sums (s)"
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
    assert isinstance(node.gates.fit, GridFit)
    lines, steps = node.gates.fit.lines, torch.exp2(-torch.arange(1.0, node.time_steps + 1))
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
    """Those that work here: without kernels, a row of theirs would be one of torch."""
    name, works = ("cupy", cuda.available) if device == "cuda" else ("host", lambda: host.load() is not None)
    return ("torch", name) if works() else ("torch",)


@dataclass(frozen=True)
class Setting:
    """What all populations of a run share.

    Attributes:
        x_seq: currents [T, ...].
        levels: of the rows with our default rounding.
        rounds: calls of each.
    """

    x_seq: Tensor
    levels: int
    rounds: int

    @property
    def device(self) -> str:
        return self.x_seq.device.type

    @property
    def time_steps(self) -> int:
        return len(self.x_seq)


def in_mode(node: Any, step_mode: str, x: Tensor) -> Tensor:
    """The node's output for currents ("m") or their sum ("s")."""
    node.step_mode = step_mode
    return node(x)  # type: ignore[no-any-return]


def calls_of_theirs(node: torch.nn.Module, title: str, x_seq: Tensor) -> Calls:
    """SpikingJelly's node: trains, sums."""
    x = x_seq.sum(0)
    return {title: lambda: in_mode(node, "m", x_seq), title + SUMS: lambda: in_mode(node, "s", x)}


def calls_of(node: WindowNode, title: str, x_seq: Tensor) -> Calls:
    """Our node on each backend: trains, by kernels also into a buffer that is used again, sums."""
    buffer, x = torch.empty_like(x_seq), x_seq.sum(0)

    def on(backend: str, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            node.backend = backend
            return call()

        return run

    calls: Calls = {}
    for backend in backends(x_seq.device.type):
        name = f"{title}, {backend}"
        calls[name] = on(backend, lambda: in_mode(node, "m", x_seq))
        if backend != "torch":  # which would copy its train to the buffer
            calls[f"{name}, buffer used again"] = on(backend, lambda: node.train_from(x_seq, out=buffer))
        calls[name + SUMS] = on(backend, lambda: in_mode(node, "s", x))
    return calls


def print_table(calls: Calls, reference: str, setting: Setting) -> None:
    """Rows of all calls, trains and sums with their ratio to those of the one called `reference`."""
    copies = {"": "copy of the currents", SUMS: "copy of their sum"}
    x = setting.x_seq.sum(0)
    targets = torch.empty_like(setting.x_seq), torch.empty_like(x)
    copying: Calls = {
        copies[""]: lambda: targets[0].copy_(setting.x_seq),
        copies[SUMS]: lambda: targets[1].copy_(x),
    }
    times = in_turn(copying | calls, setting.rounds)
    for title, taken in times.items():
        kind, seconds = SUMS if title.endswith((SUMS, copies[SUMS])) else "", taken.median
        cells = [milliseconds(seconds), milliseconds(taken.spread), f"{1e9 * seconds / x.numel():.2f}"]
        share = times[copies[kind]].median / seconds
        faster = "" if title in copying else f"{times[reference + kind].median / seconds:.1f}"
        print_row([title, *cells, f"{x.numel() / seconds:.2e}", f"{share:.2f}", faster])


@torch.no_grad()
def oat_table(setting: Setting) -> None:
    """OAT neurons beside SpikingJelly's."""
    steps, x_seq, device = setting.time_steps, setting.x_seq, setting.device
    theirs = spikingjelly_oat(steps, device)
    same = OATNode(NORMAL, OUTLIER, steps, 1, "floor", step_mode="m").to(device)
    check_oat(same, theirs, x_seq.float())
    few = sj.FewSpikeNode(table_of(NORMAL, steps, device), step_mode="m")
    calls = calls_of_theirs(theirs.to(x_seq.dtype), "SpikingJelly OAT", x_seq)
    calls |= calls_of_theirs(few.to(x_seq.dtype), "SpikingJelly FewSpike", x_seq)
    calls |= calls_of(same, "OAT, one level, floor", x_seq)
    default = OATNode(NORMAL, OUTLIER, steps, setting.levels).to(device)
    calls |= calls_of(default, f"OAT, {setting.levels} levels, nearest", x_seq)
    print_table(calls, "SpikingJelly OAT", setting)


def check_oat(node: OATNode, theirs: torch.nn.Module, x_seq: Tensor) -> None:
    """Raise unless both emit the same trains and sums."""
    x = x_seq.sum(0)
    for node.backend in backends(x_seq.device.type):
        for mode, given in (("m", x_seq), ("s", x)):
            if not torch.equal(in_mode(node, mode, given), in_mode(theirs, mode, given)):
                raise SystemExit(f"OAT, {node.backend}, {mode}: other outputs than SpikingJelly's")


@torch.no_grad()
def hg_table(function: str, setting: Setting) -> None:
    """HG neurons of a function beside SpikingJelly's."""
    node = HGNode(function, setting.time_steps, step_mode="m").to(setting.device)
    x_seq = -setting.x_seq.abs() if function == "exp" else setting.x_seq
    theirs = spikingjelly_hg(node, setting.device)
    padded = torch.cat([x_seq, torch.zeros_like(x_seq[:1])])  # the step more
    check_hg(node, theirs, x_seq.float(), padded.float())
    title = f"SpikingJelly HG, {function}"
    calls = calls_of_theirs(theirs.to(x_seq.dtype), title, padded)
    print_table(calls | calls_of(node, f"HG, {function}", x_seq), title, setting)


def check_hg(node: HGNode, theirs: torch.nn.Module, x_seq: Tensor, padded: Tensor) -> None:
    """Raise unless both come to the same sums in the core of the function."""
    assert isinstance(node.function, GridFunction)
    low, high = node.function.core
    x = x_seq.sum(0)
    inside = (x > low) & (x < high)
    for node.backend in backends(x_seq.device.type):
        for mode, ours_takes, theirs_takes in (("m", x_seq, padded), ("s", x, x)):
            found, expected = in_mode(node, mode, ours_takes), in_mode(theirs, mode, theirs_takes)
            if mode == "m":
                found, expected = found.sum(0), expected.sum(0)
            largest = float((found - expected)[inside].abs().max())
            if largest > 1e-5:
                raise SystemExit(f"{node.function.name}, {node.backend}, {mode}: differs by {largest:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[8, 128, 3072])
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--levels", type=int, default=15, help="of the rows that round to the nearest (%(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    steps = arguments.time_steps
    torch.manual_seed(0)
    one_step = (torch.randn(arguments.shape) * 2 / steps * GRAIN).round() / GRAIN
    x_seq = one_step.expand(steps, *arguments.shape).to(arguments.device, getattr(torch, arguments.dtype)).contiguous()
    print(f"{machine(arguments.device)}, [{', '.join(map(str, x_seq.shape))}], {arguments.dtype}\n")
    columns = ["population", "median ms", "spread ms", "ns per element", "elements per second", "of copy bandwidth"]
    print_header([*columns, "× faster than SpikingJelly"])
    setting = Setting(x_seq, arguments.levels, arguments.rounds)
    oat_table(setting)
    for function in ("gelu", "exp"):
        hg_table(function, setting)


if __name__ == "__main__":
    main()
