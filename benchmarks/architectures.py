"""How many of transformers' architectures convert? A tiny model with random weights of every model type is tried.

    python benchmarks/architectures.py                                # all types of seven auto mappings: hours
    python benchmarks/architectures.py --types llama t5 swin whisper --generation --saving
    python benchmarks/architectures.py --mapping ctc --journal ctc.jsonl    # goes on where it was cut off
    python benchmarks/architectures.py --much-used --generation --saving --placing --padding --half --energies --monitor

A type is converted if `las_sj.convert` takes it, its structure check included, and both executions differ from the ANN
by less than 1e-3 at T=16. Images and sound are given wherever a model takes them; some types need timm (`pip install
timm`) or natten. The table of docs/architectures.md is the output; its last line is `N of M architectures convert`,
where M counts those that ran as ANNs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from every_type.journal import Journal
from every_type.mappings import MAPPINGS, Entry, entries_of, much_used_entries
from every_type.processes import judged
from every_type.stages import STAGES
from every_type.table import lines_of
from tqdm import tqdm
from transformers.utils import logging

import las_sj.analysis  # noqa: F401 - once for all processes

_HELP = {
    "generation": "tokens of the ANN and of both executions, with and without cache, in fp64",
    "saving": "save and load",
    "placing": "save in shards, load with device maps, from disk and on the meta device",
    "padding": "rows of different length, padded on either side",
    "half": "convert in bf16, and compare with the ANN in bf16",
    "energies": "compare multiply-accumulates with those that PyTorch counts",
    "monitor": "count spikes of all populations",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    entries = _chosen(options)
    unknown = sorted(set(options.types) - {entry.model_type for entry in entries})
    if unknown or not entries:
        _parser().error(f"no such types in {', '.join(options.mapping)}: {', '.join(unknown)}")
    logging.set_verbosity_error()
    stages = [stage for stage in STAGES if getattr(options, stage)]
    journal = Journal(options.journal, stages, options.earlier)
    try:
        _run(journal, entries, stages, options.jobs, options.limit)
    except KeyboardInterrupt:
        _parser().exit(130, f"what is finished stands in {options.journal}: the same command goes on\n")
    rows = journal.finished()
    for line in lines_of({entry: rows[entry] for entry in entries}):
        print(line)


def _chosen(options: argparse.Namespace) -> list[Entry]:
    entries = entries_of(options.mapping, options.types)
    return [entry for entry in much_used_entries() if entry in entries] if options.much_used else entries


def _run(journal: Journal, entries: list[Entry], stages: list[str], jobs: int, limit: float) -> None:
    finished = journal.finished()
    todo = [entry for entry in entries if entry not in finished]
    with tqdm(total=len(entries), initial=len(entries) - len(todo), unit="entry") as bar:
        for entry, row in judged(todo, stages, jobs, limit):
            journal.add(entry, row)
            bar.set_postfix_str(f"{entry.model_type}: {row['status']}")
            bar.update()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mapping", nargs="+", default=list(MAPPINGS), choices=list(MAPPINGS), help="which mappings")
    parser.add_argument("--types", nargs="+", default=[], help="which model types; all if not given")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one type")
    parser.add_argument("--much-used", action="store_true", help="of these, the types that are much used")
    for stage, text in _HELP.items():
        parser.add_argument(f"--{stage}", action="store_true", help=text)
    parser.add_argument(
        "--earlier",
        action="store_true",
        help="do not run again what converted with an earlier state of the project; the table tells how many these are",
    )
    parser.add_argument(
        "--journal", type=Path, default=Path("architectures.jsonl"), help="finished types, which are not run again"
    )
    return parser


if __name__ == "__main__":
    main()
