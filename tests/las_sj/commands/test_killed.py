"""Commands that are killed at random moments: the same command again gives the same, and nothing else is left."""

from pathlib import Path

import pytest
from programs import run

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kills.py"


@pytest.mark.parametrize("command", ["convert", "evaluate", "finetune", "fas"])
def test_killed_and_repeated(command: str) -> None:
    """Three moments of each; the script itself takes twenty."""
    for extra in ("datasets", "sklearn", "lm_eval"):
        pytest.importorskip(extra, reason="an extra is not installed")
    done = run(SCRIPT, "--command", command, "--moments", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{command}: 3 kills within")
