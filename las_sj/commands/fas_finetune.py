"""The command `las-sj fas finetune`: step 2 of FAS, the quantised network on a task or another text."""

from pathlib import Path

from las_sj.commands.command_line import OneLineParser
from las_sj.commands.fas_request import add_text, parse_step, task_named
from las_sj.commands.fas_training import run_step
from las_sj.evaluation.glue import TASKS

DEFAULTS = {"learning_rate": 5e-5, "threshold_learning_rate": 5e-3, "batch_size": 32}


def main(argument_list: list[str] | None = None) -> None:
    """Train, measure, and write the output folder."""
    does = "Step 2 of FAS: train a network with quantised activations on a GLUE task, or on a text."
    run_step(parse_step("finetune", argument_list, does, DEFAULTS, _add_data))


def _add_data(parser: OneLineParser) -> None:
    parser.add_argument("model", help="hub name or folder; that of step 1, or a plain model")
    parser.add_argument("--task", type=task_named, choices=TASKS, help="of GLUE")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds SST-2/train.tsv, … (the hub's GLUE)")
    parser.add_argument("--rows", type=int, metavar="N", help="of the task to train on, drawn at random (all)")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens; longer texts are cut (128)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="to train a model of language on")
    add_text(parser)
