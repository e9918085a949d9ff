"""The command `las-sj fas pretrain`: step 1 of FAS, language modelling with quantised activations."""

from pathlib import Path

from las_sj.commands.command_line import OneLineParser
from las_sj.commands.fas_request import add_text, parse_step
from las_sj.commands.fas_training import run_step

DEFAULTS = {"learning_rate": 9e-5, "threshold_learning_rate": 1e-3}


def main(argument_list: list[str] | None = None) -> None:
    """Train, measure, and write the output folder."""
    does = "Step 1 of FAS: train a model of language whose activations have L levels, with their thresholds."
    run_step(parse_step("pretrain", argument_list, does, DEFAULTS, _add_data))


def _add_data(parser: OneLineParser) -> None:
    parser.add_argument("model", nargs="?", help="hub name or folder (the default model of this package)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="to train on")
    add_text(parser)
