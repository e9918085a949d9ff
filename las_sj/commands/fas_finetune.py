"""The command `las-sj fas finetune`: step 2 of FAS, the quantised network on a task or another text."""

from las_sj.commands.fas_data import add_task, add_text
from las_sj.commands.fas_request import FasRequest, parse_training, step_parser
from las_sj.commands.fas_training import run_step

DEFAULTS = {"learning_rate": 5e-5, "threshold_learning_rate": 5e-3, "batch_size": 32}


def finetune(argument_list: list[str] | None = None) -> None:
    """Train, measure, and write the output folder."""
    run_step(parse_arguments(argument_list))


def parse_arguments(arguments: list[str] | None = None) -> FasRequest:
    """Read the command line, which ends the command where it is wrong."""
    does = "Step 2 of FAS: train a network with quantised activations on a GLUE task, or on a text."
    parser = step_parser("finetune", does)
    parser.add_argument("model", help="hub name or folder; that of step 1, or a plain model")
    add_task(parser)
    add_text(parser)
    return parse_training(parser, "finetune", arguments, DEFAULTS)
