"""What tests of python -m las_sj.convert share."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import ENVIRONMENT, Finished
from transformers import AutoTokenizer

from las_sj.loading import default_model

COMMAND = [sys.executable, "-m", "las_sj.convert"]
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "las_report.json"}


def start(*arguments: str | Path, cwd: Path) -> Finished:
    done = subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, capture_output=True)
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(default_model()).save_pretrained(folder)
    return folder
