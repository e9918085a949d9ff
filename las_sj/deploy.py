"""`python -m las_sj.deploy`."""

from las_sj.commands.command_line import run
from las_sj.commands.deploy import main

if __name__ == "__main__":
    run(main)
