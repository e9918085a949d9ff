"""The command `las-sj fas`: the steps of FAS, one after the other. Needs the extra `glue`."""

import sys
from collections.abc import Callable

from las_sj.commands.command_line import program
from las_sj.commands.fas_calibrate import calibrate
from las_sj.commands.fas_finetune import finetune
from las_sj.commands.fas_pretrain import pretrain
from las_sj.usage import UsageError

STEPS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "pretrain": (pretrain, "step 1: train a model of language with activations of L levels"),
    "finetune": (finetune, "step 2: train it on a task, or on another text"),
    "calibrate": (calibrate, "step 3: bring the spike trains of its neurons to the quantised ANN"),
}


def main(argument_list: list[str] | None = None) -> None:
    """Run the step that the first argument names, with the others; list the steps where there is none."""
    name, *rest = [*(sys.argv[1:] if argument_list is None else argument_list)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
    elif name in STEPS:
        STEPS[name][0](rest)
    else:
        raise UsageError(f"fas has no step {name!r}: it is one of {', '.join(STEPS)}")


def usage() -> str:
    """The steps, one to a line."""
    lines = [f"  {name:10} {does}" for name, (_, does) in STEPS.items()]
    command = program("fas")
    return "\n".join([f"usage: {command} STEP ...", "", *lines, "", f"{command} STEP --help lists the options of one."])
