"""All that is said of GPUs, in one run of under four minutes: populations, calls, greedy text, the bundled model.

    python benchmarks/gpu.py [--device cuda] [--parts populations,python,text,default,calls] [--profile]

Prints tables with the date and the card. Ratios are of one run; spreads are slowest minus fastest.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from gpu_models import Pair, Row, graph_tokens_per_second, rows_of_calls, tokens_per_second
from gpu_populations import rows
from timing import machine, now, print_header, print_row
from torch.profiler import ProfilerActivity, profile

import las_sj
from las_sj.neurons import HGNode, MTNode, OATNode, WindowNode

CALLS = "1B:bfloat16:4x512,1B:float32:4x512,1B:bfloat16:1x512,1B:bfloat16:1x2048,7B:bfloat16:4x512"
PARTS = ("populations", "python", "text", "default", "calls")
NEW_TOKENS = 64


def print_calls(arguments: argparse.Namespace) -> None:
    """Calls of random Llamas: pairs are made once for neighbouring cases of one model."""
    print_header(["random Llama", "execution", "median ms", "spread ms", "× ANN", "× T × ANN", "GiB of the call"])
    pair: Pair | None = None
    for case in arguments.calls.split(","):
        size, dtype, shape = case.split(":")
        if pair is None or (pair.size, pair.dtype) != (size, dtype):
            pair = None  # before the next one is made: both may not fit
            torch.cuda.empty_cache()
            pair = Pair(size, dtype, arguments.device, arguments.time_steps)
        rows, tokens = (int(number) for number in shape.split("x"))
        in_time = rows == 1 or size != "7B"
        executions = ("accumulated", "temporal") if in_time else ("accumulated",)
        print_rows(rows_of_calls(pair, (rows, tokens), executions, arguments.rounds), arguments.time_steps)
        if arguments.profile:
            print_profile(pair, (rows, tokens))


def print_rows(rows: list[Row], time_steps: int) -> None:
    for row in rows:
        print_row(row.cells(time_steps))


@torch.no_grad()
def print_profile(pair: Pair, shape: tuple[int, int]) -> None:
    """What an accumulated call of a GPU's time goes to."""
    way = pair.way("accumulated", pair.tokens(*shape))
    way.prepare()
    way.call()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        way.call()
        torch.cuda.synchronize()
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=60))


def print_text(arguments: argparse.Namespace) -> None:
    """Greedy text of a random Llama, one prompt."""
    pair = Pair(arguments.text_model, "bfloat16", arguments.device, arguments.time_steps)
    ways = {"generate, dynamic cache": tokens_per_second, "CUDA graph of a step, static cache": graph_tokens_per_second}
    print_header(["greedy text", "ANN tokens/s", "accumulated tokens/s", "of the ANN's"])
    for name, measure in ways.items():
        ann, snn = (measure(pair, execution, NEW_TOKENS) for execution in (None, "accumulated"))
        print_row([f"{pair.name}, {name}", f"{ann:.1f}", f"{snn:.1f}", f"{snn / ann:.2f}"])


def print_populations(arguments: argparse.Namespace) -> None:
    """Populations and layers beside a copy of the same bytes."""
    print_header(["population", "what", "type", "elements", "copy ms", "ms", "of copy bandwidth"])
    for row in rows(device=arguments.device):
        figures = (f"{row.elements / 1e6:.1f}M", f"{row.copy_ms:.4f}", f"{row.ms:.4f}", f"{row.share:.2f}")
        print_row([row.name, row.what, row.dtype, *figures])


def print_python(arguments: argparse.Namespace) -> None:
    """What a population call of one neuron costs, which is Python and the launch."""
    nodes: dict[str, WindowNode] = {
        "MT": MTNode(2.0, arguments.time_steps, 15),
        "OAT": OATNode(2.0, 32.0, arguments.time_steps, 15),
        "HG, gelu": HGNode("gelu", arguments.time_steps),
    }
    print_header(["population call of one neuron", "µs, sums", "µs, trains"])
    for name, node in nodes.items():
        x_seq = torch.ones(arguments.time_steps, 1, device=arguments.device)
        node = node.to(arguments.device)
        cells = []
        for node.step_mode, given in (("s", x_seq[0]), ("m", x_seq)):
            cells.append(f"{1e6 * seconds_of(partial(node, given)):.1f}")
        print_row([name, *cells])


@torch.no_grad()
def seconds_of(call: Callable[[], object], calls: int = 300, rounds: int = 5) -> float:
    """Seconds of one call among many: the best of several rounds, as others may have been at work."""
    found = []
    for _ in range(rounds + 1):
        start = now()
        for _ in range(calls):
            call()
        found.append((now() - start) / calls)
    return min(found[1:])


def print_default(arguments: argparse.Namespace) -> None:
    """The bundled model: converted where it is, in each precision."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from las_sj.checkpoint.loading import default_model
    from las_sj.data.text import read_text, token_windows

    folder = default_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    windows = token_windows(tokenizer, read_text(folder / "evaluation.txt"), 2048, 128, 4)
    calibration = token_windows(tokenizer, read_text(folder / "calibration.txt"), 2048, 128, 4)
    print_header(["bundled model", "ANN loss", "accumulated loss", "temporal loss"])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(arguments.device)
        losses = [mean_loss(model, windows)]
        las_sj.convert(model, las_sj.LASConfig(time_steps=arguments.time_steps), calibration)
        for execution in ("accumulated", "temporal"):
            las_sj.set_execution(model, execution)
            losses.append(mean_loss(model, windows))
        print_row([str(dtype).removeprefix("torch."), *(f"{loss:.4f}" for loss in losses)])


@torch.no_grad()
def mean_loss(model: torch.nn.Module, windows: list[dict[str, torch.Tensor]]) -> float:
    """Mean cross-entropy of the next token, in nats."""
    device = next(model.parameters()).device
    ids = (window["input_ids"].to(device) for window in windows)
    return statistics.fmean(float(model(input_ids=rows, labels=rows).loss) for rows in ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default=",".join(PARTS), help="%(default)s")
    parser.add_argument("--calls", default=CALLS, help="SIZE:DTYPE:ROWSxTOKENS, … (%(default)s)")
    parser.add_argument("--text-model", default="1B", help="size of the Llama that generates (%(default)s)")
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print what accumulated calls spend a GPU's time on")
    arguments = parser.parse_args()
    if torch.device(arguments.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here")
    print(f"{datetime.date.today()}, {machine(arguments.device)}, T = {arguments.time_steps}")
    tables = {
        "populations": print_populations,
        "python": print_python,
        "calls": print_calls,
        "text": print_text,
        "default": print_default,
    }
    for part in arguments.parts.split(","):
        print()
        start = time.perf_counter()
        tables[part](arguments)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
