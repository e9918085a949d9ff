"""The command `las-sj fas pretrain`: step 1 of FAS, language modelling with quantised activations."""

from las_sj.commands.fas_data import add_text
from las_sj.commands.fas_request import FasRequest, parse_training, step_parser
from las_sj.commands.fas_training import run_step

DEFAULTS = {"learning_rate": 9e-5, "threshold_learning_rate": 1e-3}


def pretrain(argument_list: list[str] | None = None) -> None:
    """Train, measure, and write the output folder."""
    run_step(parse_arguments(argument_list))


def parse_arguments(arguments: list[str] | None = None) -> FasRequest:
    """Read the command line, which ends the command where it is wrong."""
    does = "Step 1 of FAS: train a model of language whose activations have L levels, with their thresholds."
    parser = step_parser("pretrain", does)
    parser.add_argument("model", nargs="?", help="hub name or folder (the default model, on its own text)")
    add_text(parser)
    return parse_training(parser, "pretrain", arguments, DEFAULTS)
