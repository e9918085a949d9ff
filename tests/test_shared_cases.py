"""Small scripts that once failed, each for a fault of its own: they exit 0 where the right thing happens."""

import subprocess
import sys
from pathlib import Path

import pytest
from programs import ENVIRONMENT, run

CASES = Path(__file__).parents[2] / "shared" / "cases"
SCRIPTS = sorted(path for path in CASES.glob("*") if path.suffix in (".py", ".sh"))

pytestmark = pytest.mark.skipif(not SCRIPTS, reason="needs the scripts in ../shared/cases")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_case(script: Path, tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"PYTHON": sys.executable, "TMPDIR": str(tmp_path)}
    if script.suffix == ".py":
        done = run(script, folder=tmp_path, environment=environment)
    else:
        done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
