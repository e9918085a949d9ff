"""Random Llamas on a GPU: calls of the ANN and of both executions, CUDA graphs of them, and greedy text.

The weights are drawn at random and serve for time and memory only.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from random_llamas import SIZES
from timing import Durations, now
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, StaticCache

import las_sj

GIB = 2**30
CALIBRATION = (2, 128)  # rows and tokens, of random tokens
Call = Callable[[], object]


class Pair:
    """A random Llama and its conversion.

    Args:
        size: a key of `SIZES`.
        dtype: of the weights, such as "bfloat16".
        device: of both.
        time_steps: T.
    """

    def __init__(self, size: str, dtype: str, device: str, time_steps: int) -> None:
        torch.manual_seed(0)
        self.size, self.dtype, self.device, self.time_steps = size, dtype, device, time_steps
        config = LlamaConfig(**SIZES[size], pad_token_id=0, bos_token_id=1, eos_token_id=2)
        with torch.device(device):
            self.ann: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
        calibration = [{"input_ids": self.tokens(*CALIBRATION)}]
        settings = las_sj.LASConfig(time_steps=time_steps)
        self.snn: Any = las_sj.convert(copy.deepcopy(self.ann), settings, calibration)

    @property
    def name(self) -> str:
        return f"{self.size} {self.dtype}"

    def tokens(self, rows: int, length: int) -> Tensor:
        """Random token ids [rows, length]."""
        generator = torch.Generator().manual_seed(length)
        return torch.randint(3, SIZES[self.size]["vocab_size"], (rows, length), generator=generator).to(self.device)

    def way(self, execution: str | None, ids: Tensor) -> "Way":
        """The ANN's call, or the SNN's in an execution."""
        model = self.ann if execution is None else self.snn
        prepare = (lambda: None) if execution is None else partial(las_sj.set_execution, self.snn, execution)
        return Way(execution or "ANN", prepare, partial(model, ids, use_cache=False))


@dataclass(frozen=True)
class Way:
    """A call that takes turns with others.

    Attributes:
        name: as it is printed.
        prepare: what is done before the call and not timed.
        call: what is timed.
    """

    name: str
    prepare: Call
    call: Call

    def of_graph(self) -> "Way":
        """The same call as a CUDA graph."""
        self.prepare()
        return Way(f"{self.name}, CUDA graph", lambda: None, captured(self.call))


@torch.no_grad()
def timed(ways: list[Way], rounds: int) -> dict[str, Durations]:
    """Durations of each way, one of each in every round, after a round that warms up."""
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            way.prepare()
            start = now()
            way.call()
            if number:
                taken[way.name].append(now() - start)
    return {name: Durations(tuple(seconds)) for name, seconds in taken.items()}


@torch.no_grad()
def captured(call: Call) -> Call:
    """A CUDA graph of a call, which runs again on what its inputs hold then."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> object:
        graph.replay()
        return output  # lives as long as the graph, which writes to it

    return replay


@torch.no_grad()
def peak_of(way: Way) -> float:
    """GiB that a call adds to what is there, at its peak."""
    way.prepare()
    if not torch.cuda.is_initialized():
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way.call()
    return (torch.cuda.max_memory_allocated() - before) / GIB


@dataclass(frozen=True)
class Row:
    """What a call took.

    Attributes:
        case: model, rows and tokens.
        what: ANN or an execution, and whether a CUDA graph ran it.
        taken: seconds.
        against: seconds of the ANN's call (for a graph: of the ANN's graph), median.
        peak: GiB that it added; 0 for graphs, which keep theirs.
    """

    case: str
    what: str
    taken: Durations
    against: float
    peak: float

    def cells(self, time_steps: int) -> list[object]:
        """The row as it is printed."""
        ratio = self.taken.median / self.against
        in_time = f"{ratio / time_steps:.2f}" if "temporal" in self.what else ""
        milliseconds = (f"{1e3 * seconds:.3g}" for seconds in (self.taken.median, self.taken.spread))
        return [self.case, self.what, *milliseconds, f"{ratio:.3g}", in_time, f"{self.peak:.2f}" if self.peak else ""]


def rows_of_calls(pair: Pair, shape: tuple[int, int], executions: tuple[str, ...], rounds: int) -> list[Row]:
    """Calls of one shape (rows, tokens): as they are, and as CUDA graphs."""
    ids, case = pair.tokens(*shape), f"{pair.name}, {shape[0]} × {shape[1]}"
    plain = [pair.way(execution, ids) for execution in (None, *executions)]
    graphs = [way.of_graph() for way in plain if way.name != "temporal"] if ids.is_cuda else []
    taken = timed(plain + graphs, rounds)
    rows = [Row(case, way.name, taken[way.name], taken["ANN"].median, peak_of(way)) for way in plain]
    return rows + [Row(case, way.name, taken[way.name], taken[graphs[0].name].median, 0.0) for way in graphs]


def tokens_per_second(pair: Pair, execution: str | None, new_tokens: int) -> float:
    """Greedy text after one prompt of 16 tokens, by transformers' own `generate` and its dynamic cache."""
    model = pair.ann if execution is None else pair.snn
    if execution is not None:
        las_sj.set_execution(model, execution)
    prompt = pair.tokens(1, 16)
    run = partial(model.generate, prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0)
    run(max_new_tokens=new_tokens, min_new_tokens=new_tokens)  # loads the kernels of all lengths
    start = now()
    run(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return new_tokens / (now() - start)


@torch.no_grad()
def graph_tokens_per_second(pair: Pair, execution: str | None, new_tokens: int) -> float:
    """Greedy text whose steps are replays of one CUDA graph, with transformers' static cache."""
    model = pair.ann if execution is None else pair.snn
    if execution is not None:
        las_sj.set_execution(model, execution)
    prompt = pair.tokens(1, 16)
    cache = {_cache_argument(pair.ann): StaticCache(model.config, max_cache_len=16 + new_tokens + 8)}
    logits = model(prompt, **cache, use_cache=True).logits
    token = logits[:, -1:].argmax(-1)

    def step() -> Tensor:
        return model(token, **cache, use_cache=True).logits[:, -1:].argmax(-1)  # type: ignore[no-any-return]

    replay = captured(step)
    start = now()
    for _ in range(new_tokens):
        token.copy_(replay())  # type: ignore[arg-type]
    return new_tokens / (now() - start)


def _cache_argument(model: Any) -> str:
    """What the argument is called that takes a cache; transformers renames it."""
    parameters = inspect.signature(model.forward).parameters
    return "cache" if "cache" in parameters else "past_key_values"
