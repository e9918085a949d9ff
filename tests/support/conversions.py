"""What tests of python -m las_sj.convert share."""

from pathlib import Path

from commands import Finished
from programs import run

COMMAND = ("-m", "las_sj.convert")
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "las_report.json"}


def start(*arguments: str | Path, cwd: Path, anew: bool = False) -> Finished:
    """Run the command in a process of its own; arguments as in `programs.started`."""
    done = run(*COMMAND, *arguments, folder=cwd, anew=anew)
    return Finished(done.returncode, done.stdout, done.stderr)
