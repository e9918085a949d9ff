"""What tests of python -m las_sj.convert share."""

import subprocess
import sys
from pathlib import Path

from commands import ENVIRONMENT, Finished

COMMAND = [sys.executable, "-m", "las_sj.convert"]
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "las_report.json"}


def start(*arguments: str | Path, cwd: Path) -> Finished:
    done = subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, capture_output=True)
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
