"""python -m las_sj.convert: see las_sj.commands.convert. In Python, las_sj.convert is the function."""

import sys

from las_sj.commands.command_line import run
from las_sj.commands.convert import main
from las_sj.conversion.convert import convert

if __name__ == "__main__":
    run(main)
else:
    # Python binds an imported module to its name in the package, where the function of that name must stay: who imports
    # every module (documentation generators, pkgutil.walk_packages) gets what stands in sys.modules then.
    sys.modules[__name__] = convert  # type: ignore[assignment]
