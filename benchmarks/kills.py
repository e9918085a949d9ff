"""SIGKILL at random moments of a command, and the same command again: is the result that of an undisturbed run?

    python benchmarks/kills.py                         # convert, evaluate, finetune and fas pretrain, 20 moments each
    python benchmarks/kills.py --command convert --moments 5 --seed 3

Each run is a fork of this process, which has imported everything; a moment is drawn from the whole time that an
undisturbed run takes. Prints a line for each command and ends with 1 where a result differs or a file is left behind.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from las_sj.checkpoint.loading import default_model
from las_sj.commands import convert, evaluate, fas, finetune
from las_sj.commands.command_line import run

GLUE = Path(__file__).resolve().parents[1] / "tests" / "data" / "glue"
MAINS: dict[str, Callable[[list[str]], None]] = {
    "convert": convert.main,
    "evaluate": evaluate.main,
    "finetune": finetune.main,
    "fas": fas.main,
}
SECONDS = ("seconds", "ann_seconds", "snn_seconds", "time_ratio", "resumed_from")  # what differs from run to run

PRETRAINING = ("--steps", 40, "--save-steps", 4, "--batch-size", 2)  # with dropout, which is random


def arguments_of(command: str, folder: Path) -> list[str]:
    """A short run that writes `folder`/out."""
    text, model = default_model() / "evaluation.txt", folder / "model"
    options: dict[str, Sequence[object]] = {
        "convert": ("--calibration-tokens", 256, "--evaluation-tokens", 256),
        "evaluate": (model, "--task", "text", "--text", text, "--limit", 300, "--window", 32, "--batch-size", 1),
        "finetune": (model, "--task", "SST-2", "--data", GLUE, "--rows", 64, "--batch-size", 4),
        "fas": ("pretrain", model, "--text", text, "--window", 32, "--evaluation-tokens", 64, *PRETRAINING),
    }
    return [str(part) for part in (*options[command], "--output", folder / "out")]


def prepare(command: str, folder: Path) -> None:
    """The model that a command reads, in `folder`/model."""
    if command == "evaluate":
        forked("convert", ["--output", str(folder / "model"), "--calibration-tokens", "256"]).wait()
    elif command == "fas":
        torch.manual_seed(0)
        few = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
        GPT2LMHeadModel(GPT2Config(vocab_size=512, **few)).save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(default_model()).save_pretrained(folder / "model")
    elif command == "finetune":
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        BertForSequenceClassification(BertConfig(vocab_size=512, **sizes)).save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(default_model()).save_pretrained(folder / "model")


class Run:
    """A command in a fork of this process."""

    def __init__(self, process: int) -> None:
        self.process = process

    def wait(self) -> int:
        """Its exit code, once it has ended; minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def kill(self) -> None:
        """End it without a chance to clean up."""
        os.kill(self.process, signal.SIGKILL)


def forked(command: str, arguments: list[str]) -> Run:
    """Start a command."""
    process = os.fork()
    if process:
        return Run(process)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    code = 0
    try:
        run(lambda: MAINS[command](arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    os._exit(code)


def result_of(folder: Path) -> dict[str, str]:
    """Digests of all files but for pictures and texts, which repeat the others, and for times."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return {path.name: _digest(path) for path in files}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(_without_times(json.loads(content))).encode()
    return sha256(content).hexdigest()


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_times(part) for name, part in value.items() if name not in SECONDS}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def check(command: str, moments: int, seed: int) -> str:
    """Kill and repeat a command; a line that says what came of it.

    Raises:
        AssertionError: a result differs, or something is left behind.
    """
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name), Path(name) / "scratch"
        scratch.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        prepare(command, folder)
        arguments = arguments_of(command, folder)
        assert forked(command, arguments).wait() == 0, "warming up"
        shutil.rmtree(folder / "out")
        start = time.perf_counter()
        assert forked(command, arguments).wait() == 0, "the undisturbed run"
        seconds = time.perf_counter() - start
        whole, before = result_of(folder / "out"), _names(folder)
        remains = 0
        for _ in range(moments):
            shutil.rmtree(folder / "out")
            remains += _kill_and_repeat(command, arguments, generator.uniform(0, seconds), folder)
            assert result_of(folder / "out") == whole, "another result"
            assert _names(folder) == before, f"left behind: {_names(folder) ^ before}"
        tempfile.tempdir = None
    return f"{command}: {moments} kills within {seconds:.1f} s, {remains} left something, all repeated alike"


def _kill_and_repeat(command: str, arguments: list[str], seconds: float, folder: Path) -> bool:
    """Whether the killed run left anything."""
    clean = _names(folder)
    first = forked(command, arguments)
    time.sleep(seconds)
    first.kill()
    first.wait()
    left = _names(folder) != clean
    whole = (folder / "out").exists()  # killed after it was done: there is nothing to repeat, and it is refused
    code = forked(command, arguments).wait()
    assert code == (1 if whole else 0), f"exit {code} after a kill at {seconds:.3f} s"
    return left


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def main() -> None:
    """Check the commands that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--command", choices=list(MAINS), action="append")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for command in given.command or MAINS:
        try:
            print(check(command, given.moments, given.seed), flush=True)
        except AssertionError as error:
            print(f"{command}: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
