"""What tests of python -m las_sj.evaluate share."""

import json
import re
from pathlib import Path
from typing import Any

from las_sj.checkpoint.loading import default_model

SHIPPED = Path(__file__).parents[1] / "data"
FILES = {"evaluation.json", "evaluation.md", "differences.png"}
TEXT = default_model() / "evaluation.txt"


def figures(report: dict[str, Any]) -> list[Any]:
    """All of a report's tasks but the times."""
    return [
        {key: value for key, value in task.items() if not re.search("seconds|time", key)} for task in report["tasks"]
    ]


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return report


def arguments_of(model: Path, out: Path, *more: object) -> list[str]:
    options = ["--task", "text", "--text", TEXT, "--limit", 1500, "--window", 32, "--batch-size", 1, "--output", out]
    return [str(part) for part in ("-m", "las_sj.evaluate", model, *options, *more)]
