"""The kernels under GCC's sanitizers. It takes minutes, so only `pytest -m sanitizers` runs it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.sanitizers,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++"),
]


def sanitize(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "sanitize"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


def test_kernels_are_clean() -> None:
    result = sanitize()
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_read_outside_of_a_table_is_reported() -> None:
    result = sanitize("tests/support/reads_outside_of_a_table.py")
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr
