"""python -m las_sj.evaluate: see las_sj.evaluate_command."""

from las_sj.command_line import run
from las_sj.evaluate_command import main

if __name__ == "__main__":
    run(main)
