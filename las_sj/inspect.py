"""`python -m las_sj.inspect`."""

from las_sj.command_line import run
from las_sj.inspect_command import main

if __name__ == "__main__":
    run(main)
