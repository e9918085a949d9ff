"""The scripts of the papers' tables run on any model: here on tiny ones, whose figures mean nothing."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest
from tiny_models import bert, save
from transformers import BertForSequenceClassification

from las_sj.checkpoint.loading import default_model

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "benchmarks" / "tables"
GLUE = ROOT / "tests" / "data" / "glue"
TEXT = default_model() / "evaluation.txt"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    save(bert(BertForSequenceClassification, vocab_size=512, num_labels=2), folder)
    (folder / "finetune.json").write_text(json.dumps({"task": "SST-2"}))
    return folder


Rows = Callable[..., list[list[str]]]


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rows:
    """Runs a script in this process, and returns the rows of the first table that it prints."""

    def run(script: str, *arguments: object) -> list[list[str]]:
        path = str(TABLES / script)
        monkeypatch.syspath_prepend(str(TABLES))
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(path, run_name="__main__")
        printed = capsys.readouterr().out
        lines = [*takewhile(lambda line: line.startswith("|"), printed[printed.index("|") :].splitlines())]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    return run


def test_glue(classifier: Path, rows_of: Rows) -> None:
    ((task, rows, metric, ann, snn, *_),) = rows_of("glue.py", classifier, "--data", GLUE)
    assert (task, rows, metric) == ("SST-2", "100", "accuracy")
    assert abs(float(ann) - float(snn)) <= 2


def test_time_steps(classifier: Path, rows_of: Rows) -> None:
    rows = rows_of("time_steps.py", classifier, "--data", GLUE, "--limit", 16, "--time-steps", 8, 16)
    assert [row[2] for row in rows] == ["16", "8"]
    spikes = [float(row[7]) for row in rows]
    assert spikes[0] > spikes[1]


def test_levels(classifier: Path, tmp_path: Path, rows_of: Rows) -> None:
    """A task of pairs of sentences; its score is that of the script that evaluates as `las_sj.evaluate` does."""
    folder = shutil.copytree(classifier, tmp_path / "bert")
    (folder / "finetune.json").write_text(json.dumps({"task": "MRPC"}))
    (tmp_path / "MRPC").mkdir()
    sentences = [line for line in TEXT.read_text().splitlines() if len(line) > 20][:48]
    pairs = zip(sentences[::2], sentences[1::2], strict=True)
    rows = [f"{number % 2}\t0\t0\t{one}\t{other}\n" for number, (one, other) in enumerate(pairs)]
    for split in ("train", "dev"):
        (tmp_path / "MRPC" / f"{split}.tsv").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(rows))
    ((_, number, metric, ann, *_), _) = rows_of("glue.py", folder, "--data", tmp_path)
    assert (number, metric) == ("24", "accuracy")
    found = rows_of("levels.py", folder, "--data", tmp_path, "--levels", 1, 15, "--time-steps", 8)
    _check_levels(found, float(ann) / 100)


def _check_levels(rows: list[list[str]], score: float) -> None:
    assert [row[:3] for row in rows[:4]] == [[r, "none", n] for r in ("nearest", "floor") for n in ("1", "15")]
    assert len(rows) == 8
    spikes = [float(row[6]) for row in rows]
    assert spikes[0] > spikes[1]
    assert all(float(row[3]) == pytest.approx(score, abs=1e-4) for row in rows)


def test_ablation(classifier: Path, rows_of: Rows) -> None:
    rows = rows_of("ablation.py", classifier, "--data", GLUE, "--limit", 8, "--time-steps", 8)
    assert len(rows) == 5
    assert len({row[1] for row in rows}) == 5


def test_language_modelling(tmp_path: Path, rows_of: Rows) -> None:
    options = ("--text", TEXT, "--calibration", TEXT, "--limit", 300, "--window", 64, "--stride", 64)
    call = ("language_modelling.py", "--model", default_model(), *options, "--settings", 16, "8:15:floor:2")
    first = rows_of(*call, "--work", tmp_path / "work")
    assert [row[0] for row in first] == ["T=16", "T=8:15:floor:2"]
    assert float(first[0][1]) == float(first[1][1]) < 100
    assert abs(float(first[0][3])) < abs(float(first[1][3]))
    again = rows_of(*call, "--work", tmp_path / "work")  # all batches are there
    assert again == first


def test_presets(classifier: Path, tmp_path: Path, rows_of: Rows) -> None:
    arguments = ("presets.py", classifier, "--data", GLUE.parent, "--limit", 16, "--work", tmp_path / "work")
    rows = rows_of(*arguments)
    assert [row[:3] for row in rows] == [["exact", "16", "15"], ["efficient", "12", "1"], ["minimal", "10", "1"]]
    losses, spikes = [float(row[4].split()[0]) for row in rows], [float(row[6]) for row in rows]
    assert losses == sorted(losses)
    assert spikes[1] > spikes[2]
    assert len({row[3] for row in rows}) == 1  # stages
    assert rows_of(*arguments) == rows  # which were kept


def test_pareto(classifier: Path, tmp_path: Path, rows_of: Rows) -> None:
    work, picture = tmp_path / "work", tmp_path / "pareto.png"
    options = ("--data", GLUE.parent, "--limit", 16, "--only", "short", "--work", work, "--picture", picture)
    (row,) = rows_of("pareto.py", *options, "--", classifier)
    assert row[0] == "level-aware, short, loss 0.4 %, T ≤ 16"
    assert float(row[3].split()[0]) <= 0.4
    assert picture.stat().st_size > 1000
    assert rows_of("pareto.py", *options, "--", classifier) == [row]


def test_where_energies_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TABLES))
    script = runpy.run_path(str(TABLES / "pareto.py"))
    point, goal = script["Point"], script["Goal"]
    ratios = {0.01: 1.2, 0.02: 0.98, 0.04: 0.9}
    rows = [(point(goal(loss=loss), 8), {"equal_loss": ratio}) for loss, ratio in ratios.items()]
    assert "takes less than the ANN quantised to equal loss from 2 % on" in script["crossing"](rows)
    assert "takes less at each of these losses" in script["crossing"](rows[:1])


def test_hg_sizes(tmp_path: Path, rows_of: Rows) -> None:
    """Of a language model perplexities, of an encoder relative errors; fewer lines cost more."""
    for name in ("wikitext-2/valid.txt", "wikitext-2-raw/wiki.test.raw"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(TEXT, tmp_path / name)
    options = ("--data", tmp_path, "--tokens", 200, "--sizes", 8, 64)
    rows = rows_of("hg_sizes.py", "--model", default_model(), *options, "--functions", "all", "exp")
    assert [row[:2] for row in rows] == [["none", "all"], ["8", "all"], ["64", "all"], ["8", "exp"], ["64", "exp"]]
    assert [int(row[2]) for row in rows[1:]] == [8, 64, 8, 64]
    few, many, of_exp = (abs(float(rows[index][8])) for index in (1, 2, 3))
    assert few > 10 * many
    assert of_exp < few
    save(bert(vocab_size=512), tmp_path / "bert")
    rows = rows_of("hg_sizes.py", "--model", tmp_path / "bert", *options, "--functions", "all")
    assert float(rows[1][6]) > 10 * float(rows[2][6]) > float(rows[0][6])


def test_zero_shot(tmp_path: Path, rows_of: Rows) -> None:
    rows = [{"text": "to be or not to be"}, {"text": "my kingdom for a horse"}]
    (tmp_path / "lambada").mkdir()
    (tmp_path / "lambada" / "lambada_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--data", tmp_path, "--calibration", TEXT, "--tasks", "lambada_openai")
    found = rows_of("zero_shot.py", "--model", default_model(), *options)
    assert [row[:2] for row in found] == [["lambada_openai", "acc"], ["lambada_openai", "perplexity"]]
    assert found[0][7] == "2"
