"""python -m las_sj.optimize: see las_sj.commands.optimize. In Python, las_sj.optimize is the function."""

import sys

from las_sj.commands.command_line import run
from las_sj.commands.optimize import main
from las_sj.optimisation.optimise import optimize

if __name__ == "__main__":
    run(main)
else:
    # As of las_sj.convert: who imports every module gets the function of that name.
    sys.modules[__name__] = optimize  # type: ignore[assignment]
