"""python -m las_sj.finetune: see las_sj.commands.finetune."""

from las_sj.commands.command_line import run
from las_sj.commands.finetune import main

if __name__ == "__main__":
    run(main)
