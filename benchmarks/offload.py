"""Convert and run a model whose weights stay on disk, under a cap on memory below their size.

    python benchmarks/offload.py

SmolLM2-135M (or --model DIR) is written in shards and loaded with all of its weights offloaded to disk. Then the
process may not allocate more than --cap (0.7 of the weights) beyond what it holds, a hard limit (RLIMIT_DATA, which
counts the mapped shard too), under which the model is converted and run in both executions. Then it is saved, without
the limit, because transformers maps many shards at once. A second process does the same with all weights in memory.
Prints peak memory and time of each stage, and whether the outputs are the same.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from real_models import smollm2
from transformers import AutoModelForCausalLM, AutoTokenizer

import las_sj
from las_sj.checkpoint.loading import default_model

MIB = 2**20
# glibc keeps freed memory for reuse unless it is told to return it.
RETURN_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}


def status(field: str) -> float:
    """A field of this process's status, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


@contextmanager
def stage(name: str, base: float) -> Iterator[None]:
    """Prints a row: how far memory that is no file's rose above `base` at most, and the time."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            peak[0] = max(peak[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    print(f"| {name} | {peak[0] - base:.0f} | {time.perf_counter() - start:.1f} |", flush=True)


@torch.no_grad()
def child(folder: Path, output: Path, cap: float | None, length: int) -> None:
    """One process: load, convert, run; with `cap` (MiB), offloaded and limited."""
    base = status("RssAnon")
    places = {} if cap is None else {"device_map": {"": "disk"}, "offload_folder": str(output.parent / "offload")}
    title = "all in memory" if cap is None else f"all on disk, cap {cap:.0f} MiB"
    print(f"\n| {title} | peak above the libraries, MiB | seconds |\n| --- | --- | --- |")
    with stage("load", base):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **places).eval()
    if cap is not None:
        limit = int((status("VmData") + cap) * MIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    tokens = AutoTokenizer.from_pretrained(folder)(
        (default_model() / "evaluation.txt").read_text(encoding="utf-8")[: 20 * length], return_tensors="pt"
    ).input_ids
    with stage("convert", base):
        las_sj.convert(model, las_sj.LASConfig(), [{"input_ids": tokens[:, :length]}])
    logits = {}
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(model, execution)
        with stage(execution, base):
            logits[execution] = model(tokens[:, length : 2 * length]).logits
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with stage("save", base):
        model.save_pretrained(output.with_suffix(""), max_shard_size="60MB")
    torch.save(logits, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a causal language model (SmolLM2-135M)")
    parser.add_argument("--cap", type=float, metavar="MIB", help="memory beyond the libraries (0.7 of the weights)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a window (64)")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.cap, arguments.length)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ann"
        model, tokenizer = smollm2() if arguments.model is None else _from_folder(arguments.model)
        model.save_pretrained(folder, max_shard_size="60MB")
        tokenizer.save_pretrained(folder)
        size = sum(parameter.nbytes for parameter in model.parameters()) / MIB
        del model
        cap = arguments.cap or 0.7 * size
        print(f"{folder.name}: weights {size:.0f} MiB", flush=True)
        outputs = [Path(name) / "offloaded.pt", Path(name) / "in_memory.pt"]
        for output, limit in zip(outputs, (["--cap", str(cap)], []), strict=True):
            script = [sys.executable, __file__, "--child", str(folder), str(output), "--length", str(arguments.length)]
            subprocess.run([*script, *limit], check=True, stderr=subprocess.DEVNULL, env=os.environ | RETURN_MEMORY)
        first, second = (torch.load(output, weights_only=True) for output in outputs)
        for execution, logits in first.items():
            same = torch.equal(logits, second[execution])
            print(f"\n{execution}: outputs {'bit-identical' if same else 'DIFFER'}", end="")
        folders = [output.with_suffix("") for output in outputs]
        states = [AutoModelForCausalLM.from_pretrained(folder, device_map="auto").state_dict() for folder in folders]
        same = all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
        print(f"\nsaved and loaded again: {len(states[0])} tensors {'bit-identical' if same else 'DIFFER'}")


def _from_folder(folder: Path) -> tuple[torch.nn.Module, object]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    main()
