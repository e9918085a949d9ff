"""python -m las_sj.fas: see las_sj.commands.fas."""

from las_sj.commands.command_line import run
from las_sj.commands.fas import main

if __name__ == "__main__":
    run(main)
