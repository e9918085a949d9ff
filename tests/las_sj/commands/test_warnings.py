"""What commands warn of."""

from programs import run

SCRIPT = """
import warnings
import las_sj
from las_sj.commands.command_line import run
run(lambda: warnings.warn("3 of 10 inputs of a lie outside", las_sj.OutOfRangeWarning))
"""


def test_inputs_out_of_range_are_one_line() -> None:
    finished = run("-c", SCRIPT)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "warning: 3 of 10 inputs of a lie outside\n"
