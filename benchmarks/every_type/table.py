"""The rows as Markdown: what converts, what does not and what was not run, each with its reason; and their number."""

from collections.abc import Iterator, Mapping, Sequence

from every_type.journal import EARLIER
from every_type.judging import CONVERTED, NOT_RUN, Row
from every_type.mappings import Entry
from every_type.stages import STAGES

HEADER = ("type", "mapping", "inputs", "error accumulated", "error temporal", "audit")


def lines_of(rows: Mapping[Entry, Row]) -> Iterator[str]:
    """The lines of the tables; the last one counts distinct entries.

    Args:
        rows: of finished entries.
    """
    converted = {entry: row for entry, row in rows.items() if row["status"] == CONVERTED}
    left = {entry: row for entry, row in rows.items() if row["status"] == NOT_RUN}
    failed = {entry: row for entry, row in rows.items() if entry not in converted and entry not in left}
    stages = [name for name in STAGES if any(name in row for row in converted.values())]
    yield from _table((*HEADER, *stages), [_cells(entry, row, stages) for entry, row in _sorted(converted)])
    yield from _reasons("Not converted", failed)
    yield from _reasons("Not run", left)
    yield from _by_mapping(rows)
    earlier = sum(EARLIER in row for row in rows.values())
    if earlier:
        yield f"{earlier} of the {len(rows)} rows were measured with earlier states of the project."
        yield ""
    types = len({entry.model_type for entry in converted}), len({e.model_type for e in rows if e not in left})
    yield f"Distinct types: {types[0]} of {types[1]}."
    yield ""
    yield f"{len(converted)} of {len(rows) - len(left)} architectures convert"


def _sorted(rows: Mapping[Entry, Row]) -> list[tuple[Entry, Row]]:
    return sorted(rows.items(), key=lambda item: (item[0].model_type, item[0].mapping))


def _cells(entry: Entry, row: Row, stages: Sequence[str]) -> list[str]:
    errors = [f"{row[execution]:.1e}" for execution in ("accumulated", "temporal")]
    further = [row.get(name, "") for name in ("audit", *stages)]
    return [entry.model_type, entry.mapping, row["inputs"], *errors, *further]


def _reasons(title: str, rows: Mapping[Entry, Row]) -> Iterator[str]:
    if rows:
        yield f"{title}:"
        yield ""
        cells = [[entry.model_type, entry.mapping, row["status"], row["why"]] for entry, row in _sorted(rows)]
        yield from _table(("type", "mapping", "status", "why"), cells)


def _by_mapping(rows: Mapping[Entry, Row]) -> Iterator[str]:
    cells = []
    for mapping in dict.fromkeys(entry.mapping for entry in rows):
        status = [row["status"] for entry, row in rows.items() if entry.mapping == mapping]
        counts = len(status), len(status) - status.count(NOT_RUN), status.count(CONVERTED)
        cells.append([mapping, *map(str, counts)])
    yield from _table(("mapping", "types", "run", "converted"), cells)


def _table(header: tuple[str, ...], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
