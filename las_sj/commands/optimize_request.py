"""What `las-sj optimize` is asked for."""

import argparse
import re
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from las_sj.commands.command_line import OneLineParser, at_least, option_of
from las_sj.commands.convert_request import ConvertRequest, add_data, add_model, request_of
from las_sj.commands.fas_data import task_named
from las_sj.config import LASConfig
from las_sj.evaluation.glue import TASKS
from las_sj.optimisation.goal import Goal

_NEGATIVE = re.compile(r"-[\d.]+%")


@dataclass(frozen=True)
class OptimizeRequest:
    """An optimisation.

    Attributes:
        convert: the model, its data and where the network goes; T is the largest that is tried.
        goal: loss or energy.
        restart: whether what an unfinished optimisation has kept is forgotten.
        task: of GLUE, whose rows are calibrated and checked on; None where data are given otherwise.
        data_dir: folder of GLUE; None reads from the hub.
        task_rows: of the development split that are compared on; None is all.

    Raises:
        ValueError: options do not go together.
    """

    convert: ConvertRequest
    goal: Goal = field(default_factory=lambda: Goal(loss=0.003))
    restart: bool = False
    task: str | None = None
    data_dir: Path | None = None
    task_rows: int | None = None

    def __post_init__(self) -> None:
        at_least("task_rows", self.task_rows, 1)
        if self.task is None and (self.data_dir is not None or self.task_rows is not None):
            raise ValueError("--data-dir and --task-rows belong to --task: leave them out")
        if self.task is not None and self.convert.model is None:
            raise ValueError("--task is for a classifier of it: name one as MODEL")
        if self.task is not None and self.convert.data_option is not None:
            raise ValueError(f"--task has data of its own: leave out {option_of(self.convert.data_option)}")
        if self.convert.execution is not None:
            raise ValueError("--execution is the accumulated one: leave it out")

    @property
    def config(self) -> LASConfig:
        """Settings of the conversion."""
        assert isinstance(self.convert.config, LASConfig)
        return self.convert.config

    @property
    def unfinished(self) -> Path:
        """Where statistics and measurements lie until the optimisation is done."""
        return self.convert.output.with_name(f"{self.convert.output.name}.unfinished")

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that statistics and measurements depend on, as far as it was asked for; they do not on the goal."""
        return {"task": self.task, "settings": self.config.to_dict(), "dtype": self.convert.dtype}


def parse_arguments(arguments: list[str] | None = None) -> OptimizeRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser("optimize", "Convert with the fewest spikes that a loss allows, or for an energy.")
    add_model(parser)
    _add_goal(parser)
    add_data(parser)
    _add_task(parser)
    return parser.request(_joined(sys.argv[1:] if arguments is None else arguments), _request)


def _joined(arguments: list[str]) -> list[str]:
    """The same, where a share below 0, "-1%", is the value of the option before it, as "-1" is, and not an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--loss", "--energy") and _NEGATIVE.fullmatch(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _request(given: dict[str, Any]) -> OptimizeRequest:
    goal = {each.name: given.pop(each.name) for each in fields(Goal) if each.name in given}
    own = {name: given.pop(name) for name in ("restart", "task", "data_dir", "task_rows") if name in given}
    if not {"loss", "energy"} & goal.keys():
        raise ValueError("give --loss or --energy: what may be lost, or what may be spent")
    return OptimizeRequest(request_of(given), Goal(**goal), **own)


def percentage(text: str) -> float:
    """A share, as 0.003 or 0.3%, 0.45 or 45%."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: give 0.3% or 0.003") from None


def _add_task(parser: OneLineParser) -> None:
    group = parser.add_argument_group("a task, for its classifiers")
    group.add_argument(
        "--task", type=task_named, choices=TASKS, help="of GLUE: calibrate and check on its unlabelled test rows"
    )
    group.add_argument("--data-dir", type=Path, metavar="FOLDER", help="holds SST-2/train.tsv, … (the hub's GLUE)")
    group.add_argument("--task-rows", type=int, metavar="N", help="of the development split to compare on (all)")


def _add_goal(parser: OneLineParser) -> None:
    group = parser.add_argument_group("the goal")
    group.add_argument(
        "--loss", type=percentage, metavar="L", help="that is allowed, 0.3%%: of perplexity, or of a prediction in nats"
    )
    group.add_argument(
        "--energy", type=percentage, metavar="E", help="that is allowed instead, SNN over ANN: 0.45, 45%%"
    )
    group.add_argument("--accounting", choices=("level_aware", "paper", "with_memory"), help="of energy (level_aware)")
    group.add_argument("--binary", action="store_true", help="spikes of one amplitude, without levels")
    group.add_argument("--time-steps", type=int, metavar="T", help="the most that are tried, 1…24 (16)")
    group.add_argument("--rounding", choices=("nearest", "floor"), help="of what is coded (nearest)")
    group.add_argument("--hg-tolerance", type=float, metavar="E", help="error of HG neurons (1e-5)")
    group.add_argument("--hg-lines", type=int, metavar="N", help="stored for each population of HG neurons, at most")
    group.add_argument("--fewer-stages", action="store_true", help="neurons that compute and code at once")
    group.add_argument("--headroom", type=float, metavar="F", help="range over calibrated maximum (1.5)")
    group.add_argument("--keep-analog", nargs="+", metavar="PATTERN", help="modules that stay analog")
    group.add_argument("--by-operations", action="store_true", help="convert operation by operation")
    group.add_argument("--seed", type=int)
    group.add_argument("--restart", action="store_true", help="forget what an unfinished optimisation has kept")
