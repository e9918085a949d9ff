"""`python -m las_sj.report`."""

from las_sj.command_line import run
from las_sj.report_command import main

if __name__ == "__main__":
    run(main)
