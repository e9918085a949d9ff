"""`python -m las_sj.report`."""

from las_sj.commands.command_line import run
from las_sj.commands.report import main

if __name__ == "__main__":
    run(main)
