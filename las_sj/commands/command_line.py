"""What the commands share: one clear line for every error, and the options of a conversion."""

import argparse
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from transformers.utils import logging as transformers_logging

from las_sj.config import LASConfig
from las_sj.data.writing import is_full
from las_sj.fas_config import METHODS, FASConfig
from las_sj.memory import keep_freed_memory
from las_sj.models import OutOfRangeWarning
from las_sj.presets import PRESETS, settings_of
from las_sj.reasons import reason_of, without_class_names
from las_sj.usage import UsageError

QUIET = ("torch", "huggingface_hub", "datasets", "accelerate")  # what they warn of ends in an error, which is said
WRONG_USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
MOST = 2**31 - 1  # rows, tokens, …: what every library counts with
OPTIONS = {"outlier_aware": "single_threshold"}  # settings whose options have other names
DEBUG = "LAS_SJ_DEBUG"  # environment variable: errors come with their traces

Request = TypeVar("Request")


class Unfinished(KeyboardInterrupt):
    """An interruption after which there is something to go on with; the message says what."""


def run(main: Callable[[], None]) -> None:
    """Run a command; what a user can mend ends in one line on stderr and a non-zero exit."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for library in QUIET:
        logging.getLogger(library).setLevel(logging.ERROR)
    keep_freed_memory()
    warnings.formatwarning = _formatted
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where the terminal knows no "…"
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # which a shell lets its background jobs ignore
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        kept = str(interruption) if isinstance(interruption, Unfinished) else "nothing was written"
        print(f"\ninterrupted: {kept}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except UsageError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except Exception as error:  # whatever a checkpoint or a library made of it, the user gets one line
        if os.environ.get(DEBUG, "0") != "0":
            traceback.print_exception(error)
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this package as one line, without the place in its code."""
    if issubclass(category, OutOfRangeWarning):
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A request to end is treated like Ctrl-C, so that nothing half-written stays."""
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    """What went wrong; where, too, if nobody foresaw it."""
    notes = [*getattr(error, "__notes__", [])]
    if isinstance(error, OSError) and is_full(error):
        notes.insert(0, "make room, or write elsewhere")
    if isinstance(error, MemoryError):
        return "; ".join(["not enough memory: use less at a time (--batch-size, --window) or a smaller model", *notes])
    text = without_class_names(" ".join("; ".join([_words(error), *notes]).split()))
    if text and isinstance(error, ValueError | OSError | RuntimeError):
        return text
    return (
        f"unexpected failure {_place(error)} ({text or 'no reason given'}): {DEBUG}=1 shows the trace, please report it"
    )


def _words(error: BaseException) -> str:
    """What an error says; of one of the system, its words without its number."""
    return reason_of(error) if isinstance(error, OSError) and error.strerror else str(error)


def _place(error: BaseException) -> str:
    """The innermost line of code."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "nowhere"


def program(command: str) -> str:
    """A command as it is to be typed, in the way in which this process was started.

    Args:
        command: its name.
    """
    door = Path(sys.argv[0]) if sys.argv else Path()
    if door.parent.name == "las_sj" and door.suffix == ".py":
        return f"python -m las_sj {command}" if door.stem == "__main__" else f"python -m las_sj.{command}"
    return f"las-sj {command}"


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage, and which leaves defaults to the request of a command.

    Args:
        command: its name.
        description: what it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=program(command), description=description, argument_default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """End the command with one line and the exit code of a wrong usage."""
        self.exit(WRONG_USAGE, f"error: {message} (--help lists the options)\n")

    def request(self, arguments: list[str] | None, make: Callable[[dict[str, Any]], Request]) -> Request:
        """What a command is asked for.

        Args:
            arguments: of the command line.
            make: from the options that it names and their values; a ValueError is a wrong usage.
        """
        given = vars(self.parse_args(arguments))
        named = [name for name in given if "_" in name]  # which is no word
        try:
            return make(given)
        except ValueError as error:
            name, space, rest = str(error).partition(" ")
            for each in named:
                rest = re.sub(rf"(?<!\S){each}\b", option_of(each), rest)
            self.error(f"{option_of(name) if name in {*given, *named} else name}{space}{rest}")


def option_of(name: str) -> str:
    """The option that sets a field of a request."""
    return f"--{name.replace('_', '-')}"


def at_least(name: str, value: int | None, least: int, most: int = MOST) -> None:
    """Raise a ValueError where a number is given that is too small, or too large to count anything.

    Args:
        name: of the field, as which the message names the option.
        value: of the field; None where nothing is asked for.
        least, most: that it may be.
    """
    if value is not None and value < least:
        raise ValueError(f"{option_of(name)} must be at least {least}, got {value}")
    if value is not None and value > most:
        shown = str(value) if value < 10 * most else f"{value!s:.10}…"
        raise ValueError(f"{option_of(name)} must be at most {most}, got {shown}")


def count_or_none(text: str) -> int | None:
    """A number, or "none"."""
    return None if text.lower() == "none" else int(text)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The options of a `LASConfig` or `FASConfig`, which validates them and has values for those that are not given."""
    common = parser.add_argument_group("settings of the network")
    common.add_argument("--method", choices=("las", *METHODS), help="las, or one with rate codes (las)")
    common.add_argument("--time-steps", type=int, metavar="T", help="time steps: 1…24 (16) of las, 1…32 (4) of others")
    common.add_argument(
        "--levels",
        type=int,
        metavar="N",
        help="of a spike (15), las; of an activation (8), others",
    )
    common.add_argument("--seed", type=int)
    common.add_argument("--presimulation-steps", type=int, metavar="N", help="srp's τ, cos's ρ (4, or T if less)")
    common.add_argument("--fully-spiking", action="store_true", help="fas, qcfs: all else becomes spiking too, by las")
    _add_las_settings(parser.add_argument_group("settings of las"))


def _add_las_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="exact (the defaults), or efficient and minimal, with about 0.5 and 0.4 of the energy of a large ANN; "
        "docs/pareto.md has their losses; other settings take the place of its own",
    )
    group.add_argument("--rounding", choices=("nearest", "floor"), help="of what is coded (nearest)")
    group.add_argument("--max-spikes", type=count_or_none, metavar="K", help="spikes per neuron and window (no limit)")
    group.add_argument(
        "--single-threshold",
        action="store_false",
        dest="outlier_aware",
        help="MT instead of OAT neurons, for the ablation",
    )
    group.add_argument("--hg-tolerance", type=float, metavar="E", help="error of HG neurons (1e-5)")
    group.add_argument(
        "--hg-lines", type=count_or_none, metavar="N", help="lines that a population of HG neurons may store (no limit)"
    )
    group.add_argument(
        "--last-step",
        type=float,
        metavar="S",
        help="least value that is coded of what feeds weights, over its mean: larger, fewer spikes (least error)",
    )
    group.add_argument("--headroom", type=float, metavar="F", help="range over calibrated maximum (1.5)")
    group.add_argument(
        "--power-of-two-units",
        action=argparse.BooleanOptionalAction,
        help="make spikes exact in bf16, fp16 and int8 (in models of half precision)",
    )
    group.add_argument(
        "--by-operations", action="store_true", help="convert operation by operation, models of known families too"
    )
    group.add_argument(
        "--fewer-stages",
        action="store_true",
        help="norms, softmax and activations in their short forms: less latency (models of known families)",
    )
    group.add_argument("--keep-analog", nargs="+", metavar="PATTERN", help="modules that stay analog")


def split_settings(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are settings of the network, those of a preset too, and all others, its name among them.

    Args:
        given: options by name, with their values.

    Raises:
        ValueError: a preset belongs to another method.
    """
    names = {field.name for kind in (LASConfig, FASConfig) for field in fields(kind)}
    settings = {name: value for name, value in given.items() if name in names}
    others = {name: value for name, value in given.items() if name not in names}
    preset = others.get("preset")
    if preset is None:
        return settings, others
    if settings.get("method", "las") != "las":
        raise ValueError("--preset is a setting of --method las: leave it out, or change --method")
    return settings_of(preset) | settings, others


def config_of(settings: dict[str, Any]) -> LASConfig | FASConfig:
    """The settings of a network, of the method that is asked for.

    Args:
        settings: options by name, with their values.

    Raises:
        ValueError: one belongs to another method, or is out of its range.
    """
    method = settings.get("method", "las")
    kind = LASConfig if method == "las" else FASConfig
    names = {field.name for field in fields(kind)} | {"method"}
    for name in settings:
        if name not in names:
            option, owner = option_of(OPTIONS.get(name, name)), "las" if kind is FASConfig else ", ".join(METHODS)
            raise ValueError(
                f"{option} is a setting of --method {owner}, not of {method}: leave it out, or change --method"
            )
    if kind is FASConfig:
        return FASConfig(**settings)
    return LASConfig(**{name: value for name, value in settings.items() if name != "method"})
