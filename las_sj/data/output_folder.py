"""Output that appears whole or not at all, and replaces nothing but earlier output."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from las_sj.data.output_file import MADE_BY, is_marked
from las_sj.data.owned_folder import owned_folder
from las_sj.data.paths import check_regular, lies_in, real_path
from las_sj.data.writing import OutputError, writing
from las_sj.usage import UsageError

MODEL = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)
TOKENIZER = (
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
REPORTS = ("report.html", "report.md", "report.json")  # what las-sj report writes where it is told no other file
HARDWARE = ("las_hardware.md", "las_hardware.json")  # what las-sj deploy writes
MADE_BY_DEPLOY = "written by las-sj deploy"  # in both, so that later ones may replace them
SHOWN = 3  # files that a message names


@dataclass(frozen=True)
class Output:
    """What a command writes into a folder of its own.

    Attributes:
        report: the file that marks such a folder; its JSON lists the files that were written, as "files".
        made_by: what writes it, in words.
        entries: what the report has always had, by which one that lists no files is known.
        known: patterns of the files' names, for folders of such a report.
        later: patterns of what other commands add.
        marks: words in the beginning of files whose names others use too.
    """

    report: str
    made_by: str
    entries: frozenset[str]
    known: tuple[str, ...]
    later: tuple[str, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)


CONVERSION = Output(
    "las_report.json",
    "a conversion",
    frozenset({"model", "settings", "quality", "coverage"}),
    (*MODEL, *TOKENIZER, "README.md", "las_report.*", "las_sample.safetensors", "raster.png"),
    later=(*REPORTS, *HARDWARE),
    marks={"README.md": "\n- las\n- spikingjelly\n"}  # tags of the model card
    | dict.fromkeys(REPORTS, MADE_BY)
    | dict.fromkeys(HARDWARE, MADE_BY_DEPLOY),
)
EVALUATION = Output(
    "evaluation.json",
    "an evaluation",
    frozenset({"model", "settings", "tasks"}),
    ("evaluation.json", "evaluation.md", "differences.png"),
)
FINE_TUNING = Output(
    "finetune.json",
    "a fine-tuning",
    frozenset({"model", "task", "metric", "value"}),
    (*MODEL, *TOKENIZER, "finetune.json"),
)
TRAINING = Output(
    "fas.json",
    "a training of rate codes",
    frozenset({"step", "model", "settings", "thresholds"}),
    (*MODEL, *TOKENIZER, "fas.json", "las_sample.safetensors", "losses.png"),
    later=(*REPORTS, *HARDWARE),
    marks=dict.fromkeys(REPORTS, MADE_BY) | dict.fromkeys(HARDWARE, MADE_BY_DEPLOY),
)


def check_output(path: Path, overwrite: bool, output: Output = CONVERSION, inputs: Iterable[Path] = ()) -> None:
    """Refuse what exists already, unless it may be overwritten.

    Args:
        path: the folder to be written.
        overwrite: whether it may exist.
        output: what is to be written.
        inputs: files and folders that are read, which must outlive it.

    Raises:
        OutputError: it exists and `overwrite` is not set, or it is not a folder, or holds something else.
        UsageError: it is the root of all folders.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise OutputError(f"{path} is a link to nothing: give a folder")
        real = real_path(path)
    except OSError as error:  # too long, or behind a folder that nobody may look into
        raise OutputError(f"{path} cannot be written ({error.strerror}): give another output") from None
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file: give a folder")
    if real == real.parent:
        raise UsageError(f"{path} is the root of all folders: give another output")
    path = real
    _check_place(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: give another folder, or --overwrite")
    if path.exists():
        _check_replaceable(path, output, inputs)


def _check_place(path: Path) -> None:
    """Raise where the folder cannot be made: found before the work, not after it."""
    place = next(folder for folder in path.parents if folder.exists())
    try:
        with owned_folder(_prefix(path), place, lambda folder: _rescue(folder, path)):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {place} ({error.strerror or error}): give another output") from None


def _check_replaceable(path: Path, output: Output, inputs: Iterable[Path]) -> None:
    if Path.cwd().is_relative_to(path):
        raise OutputError(f"{path} would be replaced, but this command runs in it: run it elsewhere")
    for given in inputs:
        if lies_in(given, path):
            raise OutputError(f"{given} lies in {path}, which would be replaced: give another output folder")
    if any(path.iterdir()) and not (path / output.report).exists():
        raise OutputError(f"{path} is not the output of {output.made_by} (it has no {output.report}): give another")
    foreign = _foreign(path, output) if any(path.iterdir()) else []
    if foreign:
        shown = ", ".join(foreign[:SHOWN]) + (", …" if len(foreign) > SHOWN else "")
        raise OutputError(
            f"{path} holds what {output.made_by} did not write ({shown}): move it away, or give another folder"
        )


def _foreign(path: Path, output: Output) -> list[str]:
    """What lies directly in the folder and was not written by an earlier run; such a run makes no folders."""
    names = [*output.later, *_written(path, output)]
    return sorted(
        entry.name
        for entry in path.iterdir()
        if (entry.is_dir() and not entry.is_symlink())
        or not any(fnmatch(entry.name, name) for name in names)
        or (entry.name in output.marks and not is_marked(entry, output.marks[entry.name]))
    )


def _written(path: Path, output: Output) -> Sequence[str]:
    """Names, or patterns of them, of the files that an earlier run wrote, by its report.

    Raises:
        OutputError: no run wrote this report.
    """
    try:
        check_regular(path / output.report)
        report = json.loads((path / output.report).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        report = None
    entries = report if isinstance(report, dict) else {}
    files = entries.get("files")
    if isinstance(files, list):
        return [escape(str(file)) for file in files]
    if output.entries <= entries.keys():
        return output.known
    raise OutputError(
        f"{path} is not the output of {output.made_by} (its {output.report} is no report of one): give another folder"
    )


@contextmanager
def whole_folder(
    path: Path, overwrite: bool, output: Output = CONVERSION, inputs: Sequence[Path] = ()
) -> Iterator[Path]:
    """A temporary folder that is renamed to `path` at the end, or removed if anything goes wrong.

    Arguments and errors are those of `check_output`.
    """
    check_output(path, overwrite, output, inputs)
    path = path.resolve()
    stage_of = owned_folder(_prefix(path), path.parent, lambda folder: _rescue(folder, path))
    with writing(path), _parents(path), stage_of as stage:
        new = stage / "new"
        new.mkdir()
        yield new
        _list_files(new, output)
        check_output(path, overwrite, output, inputs)  # it may have changed since
        _replace(path, new, stage / "old")


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Make the folders above `path`; those that were not there go again if anything goes wrong."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # somebody else uses one by now
            for folder in made:
                folder.rmdir()
        raise


def _list_files(folder: Path, output: Output) -> None:
    """Have the report list the files, so that a later run knows what it may replace."""
    report = folder / output.report
    if report.exists():
        entries = json.loads(report.read_text(encoding="utf-8"))
        entries["files"] = sorted(file.name for file in folder.iterdir())
        report.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def _replace(path: Path, new: Path, old: Path) -> None:
    """Rename `new` to `path`; a folder that is there becomes `old`, and is back in its place if that fails."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        _rescue(old.parent, path)
        raise


def _rescue(stage: Path, path: Path) -> None:
    """Put the former output back in its place, where a run ended between taking it away and putting the new one."""
    if (stage / "old").exists() and not path.exists():
        (stage / "old").rename(path)


def _prefix(path: Path) -> str:
    return f".{path.name}.partial-"
