"""python -m las_sj.evaluate: see las_sj.commands.evaluate."""

from las_sj.commands.command_line import run
from las_sj.commands.evaluate import main

if __name__ == "__main__":
    run(main)
