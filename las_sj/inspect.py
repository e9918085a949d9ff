"""`python -m las_sj.inspect`."""

from las_sj.commands.command_line import run
from las_sj.commands.inspect import main

if __name__ == "__main__":
    run(main)
