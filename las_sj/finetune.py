"""python -m las_sj.finetune: see las_sj.finetune_command."""

from las_sj.command_line import run
from las_sj.finetune_command import main

if __name__ == "__main__":
    run(main)
