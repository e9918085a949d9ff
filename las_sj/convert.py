"""python -m las_sj.convert: see las_sj.convert_command. In Python, las_sj.convert is the function."""

from las_sj.command_line import run
from las_sj.convert_command import main

if __name__ == "__main__":
    run(main)
