"""python -m las_sj: what the command las-sj does, which stands on this package and is not imported by it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("las_sj_cli", run_name="__main__")
