"""What commands warn of."""

import subprocess
import sys

from commands import ENVIRONMENT

SCRIPT = """
import warnings
import las_sj
from las_sj.commands.command_line import run
run(lambda: warnings.warn("3 of 10 inputs of a lie outside", las_sj.OutOfRangeWarning))
"""


def test_inputs_out_of_range_are_one_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120
    )
    assert finished.stderr == "warning: 3 of 10 inputs of a lie outside\n"
