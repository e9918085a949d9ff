"""python -m las_sj.convert: see las_sj.commands.convert. In Python, las_sj.convert is the function."""

from las_sj.commands.command_line import run
from las_sj.commands.convert import main

if __name__ == "__main__":
    run(main)
