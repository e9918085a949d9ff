"""The options of commands that name images, sounds or pairs, and which models take what they name."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from las_sj.commands.command_line import option_of
from las_sj.data.examples import Example
from las_sj.data.modalities import Modalities, ModalityError


def add_media(group: argparse._ActionsContainer, samples: int) -> None:
    """The options that name images, sounds and pairs.

    Args:
        group: of options.
        samples: how many are taken, where nothing else is asked for.
    """
    group.add_argument("--images", type=Path, metavar="DIR", help="images, in any layout of folders")
    group.add_argument("--audio", type=Path, metavar="DIR", help="sounds, WAV or FLAC, at any rate")
    group.add_argument(
        "--pairs", type=Path, metavar="FILE", help='JSON lines: {"text": "…", "image" or "audio": "path"}'
    )
    group.add_argument("--samples", type=int, metavar="N", help=f"images, sounds or pairs, at most ({samples})")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option that lets a model's own code run."""
    parser.add_argument(
        "--trust-remote-code", action="store_true", dest="trust", help="run Python code that comes with the model"
    )


def one_of(paths: dict[str, Path | None]) -> str | None:
    """The one option that is given; None where none is.

    Args:
        paths: by option.

    Raises:
        ValueError: several are.
    """
    given = [name for name, path in paths.items() if path is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(map(option_of, given))} exclude each other: give one of them")
    return given[0] if given else None


def check_takes(
    name: str | Path, takes: Modalities, option: str | None, examples: Sequence[Example] = (), others: str = ""
) -> None:
    """Make sure that a model takes what it is given.

    Args:
        name: of the model.
        takes: what it takes.
        option: that names data; None where none does.
        examples: of the data, where they are images, sounds or pairs.
        others: the option for texts, where it is not --calibration.

    Raises:
        ModalityError: it does not; the message says which option it needs.
    """
    with_text = takes.text or takes.decoder
    fits = {"images": takes.images, "audio": takes.sound, "pairs": with_text and (takes.images or takes.sound)}
    instead = takes.option.replace("--calibration", others or "--calibration")
    if option is not None and not fits.get(option, takes.only_text):
        raise ModalityError(f"{name} takes {' and '.join(takes.names)}: give {instead}, not {option_of(option)}")
    for example in examples:
        kind = "image" if example.image is not None else "sound"
        if not (takes.images if kind == "image" else takes.sound):
            raise ModalityError(f"{name} takes no {kind}, which --pairs has: give {instead}")
