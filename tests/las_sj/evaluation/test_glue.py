"""The tasks of GLUE: their files' quirks, the hub's columns, and their metrics by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import bert
from transformers import AutoTokenizer, BertForSequenceClassification

from las_sj.checkpoint.loading import default_model
from las_sj.evaluation.classification import unseen_batches
from las_sj.evaluation.errors import GlueError
from las_sj.evaluation.glue import TASKS, encode, predictions_of, read_glue, score, scores
from las_sj.extras import MissingExtraError, require_extra

datasets = pytest.importorskip("datasets", reason="the extra glue is not installed")

SHIPPED = Path(__file__).parents[2] / "data" / "glue"

FILES = {
    "SST-2": "sentence\tlabel\nnice \t1\nbad\t0\n",
    "CoLA": 'gj04\t1\t\tHe left.\ngj04\t0\t*\tHe "leave.',
    "MRPC": '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tHe said " hi .\tHe said .\n0\t3\t4\ta\tb\n',
    "STS-B": "index\tsentence1\tsentence2\tscore\n0\tA man.\tThe man.\t5.000\n1\tA man.\tA pan.\t0.25\n",
    "RTE": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\tc\td\tentailment\n",
    "WNLI": "index\tsentence1\tsentence2\tlabel\r\n0\ta\tb\t1\r\n1\tc\td\t0\r\n",
    "QNLI": "index\tquestion\tsentence\tlabel\n0\ta?\tb\tentailment\n1\tc?\td\tnot_entailment\n",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\ta?\tb?\t0\n8\t3\t4\tc?\td?\t1\n",
    "MNLI": "".join(
        json.dumps({"premise": first, "hypothesis": second, "label": label}) + "\n"
        for first, second, label in (("a", "b", "neutral"), ("c", "d", "contradiction"))
    ),
}
FILES["MNLI-mm"] = FILES["MNLI"]
EXPECTED: dict[str, tuple[list[str], list[str | None], list[float]]] = {
    "SST-2": (["nice ", "bad"], [None, None], [1, 0]),
    "CoLA": (["He left.", 'He "leave.'], [None, None], [1, 0]),
    "MRPC": (['He said " hi .', "a"], ["He said .", "b"], [1, 0]),
    "STS-B": (["A man.", "A man."], ["The man.", "A pan."], [5.0, 0.25]),
    "RTE": (["a", "c"], ["b", "d"], [1, 0]),
    "WNLI": (["a", "c"], ["b", "d"], [1, 0]),
    "QNLI": (["a?", "c?"], ["b", "d"], [0, 1]),
    "QQP": (["a?", "c?"], ["b?", "d?"], [0, 1]),
    "MNLI": (["a", "c"], ["b", "d"], [1, 2]),
    "MNLI-mm": (["a", "c"], ["b", "d"], [1, 2]),
}


def write(folder: Path, name: str, content: str | bytes, split: str = "dev") -> Path:
    path = folder / name.removesuffix("-mm") / TASKS[name].file_of(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize("name", list(TASKS))
def test_files(name: str, tmp_path: Path) -> None:
    rows = read_glue(TASKS[name], "dev", write(tmp_path, name, FILES[name]))
    assert rows.column_names == ["text_a", "text_b", "label"]
    assert (list(rows["text_a"]), list(rows["text_b"]), list(rows["label"])) == EXPECTED[name]


def test_a_slice_where_there_is_no_development_split(tmp_path: Path) -> None:
    """As the one public slice of QQP has it: no header, and a first line that lacks its beginning or its end."""
    (tmp_path / "QQP").mkdir()
    rows = "7\t1\t2\tcut off? 0\n8\t3\t4\ta?\tb?\t0\n9\t5\t6\tc?\td?\t1\n"
    (tmp_path / "QQP" / "train_slice.tsv").write_text(rows)
    found = read_glue(TASKS["QQP"], "dev", tmp_path)
    assert (list(found["text_a"]), list(found["label"])) == (["a?", "c?"], [0, 1])
    with pytest.raises(GlueError, match=r"cannot read text from .*QQP/train.tsv"):
        read_glue(TASKS["QQP"], "train", tmp_path)
    assert found.info.description == "train_slice.tsv, rows of the training split"
    write(tmp_path / "2", "QQP", FILES["QQP"])
    whole = read_glue(TASKS["QQP"], "dev", tmp_path / "2")
    assert len(whole) == 2
    assert whole.info.description == "development split"


def test_all_official_metrics() -> None:
    predictions, labels = [1, 1, 0, 1], [1, 0, 0, 1]
    assert scores(TASKS["MRPC"], predictions, labels) == pytest.approx({"accuracy": 0.75, "F1": 0.8})
    assert scores(TASKS["QQP"], predictions, labels) == pytest.approx({"accuracy": 0.75, "F1": 0.8})
    values, wanted = [0.1, 0.9, 0.3, 4.0], [0.0, 1.0, 2.0, 5.0]
    found = scores(TASKS["STS-B"], values, wanted)
    assert found == pytest.approx(
        {"Spearman correlation": 0.8, "Pearson correlation": np.corrcoef(values, wanted)[0, 1]}
    )


def test_shipped_rows() -> None:
    """Real rows: as many as lines, and both classes."""
    for split, number in (("train", 200), ("dev", 100)):
        rows = read_glue(TASKS["SST-2"], split, SHIPPED)
        assert len(rows) == number
        assert set(rows["label"]) == {0, 1}
    assert rows[0] == {"text_a": "it 's a charming and often affecting journey . ", "text_b": None, "label": 1}


@pytest.mark.parametrize("name", list(TASKS))
def test_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's columns, with its own names, give the same rows as the files."""
    task = TASKS[name]
    first, second, labels = EXPECTED[name]
    columns = {task.texts[0]: first, "label": labels, "idx": [0, 1]}
    if len(task.texts) == 2:
        columns[task.texts[1]] = second

    def load(path: str, config: str, split: str) -> Any:
        assert (path, config) == ("nyu-mll/glue", task.hub_name)
        assert split == {"MNLI": "validation_matched", "MNLI-mm": "validation_mismatched"}.get(name, "validation")
        return datasets.Dataset.from_dict(columns)

    monkeypatch.setattr(datasets, "load_dataset", load)
    from_file = read_glue(task, "dev", write(tmp_path, name, FILES[name]))
    assert read_glue(task, "dev").to_dict() == from_file.to_dict()


def test_test_split_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []

    def load(path: str, config: str, split: str) -> Any:
        splits.append(split)
        return datasets.Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [-1]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    for name in ("MNLI", "MNLI-mm"):
        assert list(read_glue(TASKS[name], "test")["label"]) == [-1]
    assert splits == ["test_matched", "test_mismatched"]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(GlueError, match="cannot read RTE from the hub, give a folder that holds it: no network"):
        read_glue(TASKS["RTE"], "train")


BROKEN: dict[str, tuple[str, str | bytes, str]] = {
    "too few columns": ("SST-2", "sentence\tlabel\ngood\t1\nbad\n", r"dev.tsv, line 3: 1 columns, expected 2"),
    "too many columns": ("SST-2", "sentence\tlabel\ngood\tindeed\t1\n", r"line 2: 3 columns, expected 2"),
    "header in a file without": ("CoLA", "sentence\tlabel\ngood\t1\n", "line 1: 2 columns, expected 4"),
    "other columns": ("SST-2", "text\tlabel\ngood\t1\n", "line 2: no text in a column 'sentence'"),
    "unknown class": ("SST-2", "sentence\tlabel\ngood\t2\n", "line 2: label '2' is none of negative, positive, 0, 1"),
    "unknown word": ("RTE", FILES["RTE"] + "2\te\tf\tmaybe\n", "line 4: label 'maybe' is none of entailment"),
    "score that is no number": ("STS-B", FILES["STS-B"] + "2\te\tf\tmany\n", "line 4: score 'many' is not a number"),
    "NaN score": ("STS-B", FILES["STS-B"] + "2\te\tf\tnan\n", "line 4: score 'nan' is not a number"),
    "empty file": ("SST-2", "", "is empty"),
    "header only": ("SST-2", "sentence\tlabel\n", "dev.tsv has no rows"),
    "binary": ("SST-2", b"sentence\tlabel\n\xff\xfe\t1\n", "cannot read text from .*dev.tsv"),
    "broken JSON": ("MNLI", '{"premise": "a",\n', "dev_matched.jsonl, line 1: "),
    "JSON without a label": ("MNLI", '{"premise": "a", "hypothesis": "b"}\n', "line 1: no text in a column 'label'"),
    "JSON that is no object": ("MNLI", "[1]\n", "line 1: not a JSON object"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_file(case: str, tmp_path: Path) -> None:
    name, content, message = BROKEN[case]
    with pytest.raises(GlueError, match=message):
        read_glue(TASKS[name], "dev", write(tmp_path, name, content))


def test_missing_file_and_split(tmp_path: Path) -> None:
    with pytest.raises(GlueError, match=r"cannot read text from .*QNLI/train.tsv"):
        read_glue(TASKS["QNLI"], "train", tmp_path)
    with pytest.raises(GlueError, match=r"cannot read text from .*MNLI/test_mismatched.jsonl"):
        read_glue(TASKS["MNLI-mm"], "test", tmp_path)
    with pytest.raises(GlueError, match="split must be one of train, dev, test, got 'validation'"):
        read_glue(TASKS["QNLI"], "validation", tmp_path)


UNLABELLED = {
    "CoLA": ("index\tsentence\n0\tHe left.\n", "He left.", None),  # unlike its other files, with a header
    "MRPC": ("\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\ta\tb\n", "a", "b"),
    "MNLI": ('{"premise": "a", "hypothesis": "b"}\n', "a", "b"),
}


@pytest.mark.parametrize("name", list(UNLABELLED))
def test_test_split(name: str, tmp_path: Path) -> None:
    content, first, second = UNLABELLED[name]
    rows = read_glue(TASKS[name], "test", write(tmp_path, name, content, "test"))
    assert rows.to_dict() == {"text_a": [first], "text_b": [second], "label": [-1.0]}


def test_rows_that_a_classifier_has_not_seen(tmp_path: Path) -> None:
    """Test rows where there are some, and training rows of a folder without them."""
    task, tokenizer = TASKS["MRPC"], AutoTokenizer.from_pretrained(default_model())
    model = bert(BertForSequenceClassification, num_labels=2)
    write(tmp_path, "MRPC", FILES["MRPC"], "train")
    batches, called = unseen_batches(task, model, tokenizer, tmp_path, 1)
    assert (len(batches), called) == (2, "training rows of MRPC")
    write(tmp_path, "MRPC", UNLABELLED["MRPC"][0], "test")
    batches, called = unseen_batches(task, model, tokenizer, tmp_path, 1)
    assert (len(batches), called) == (1, "unlabelled test rows of MRPC")
    assert batches[0]["input_ids"].tolist() == [tokenizer("a", "b")["input_ids"]]


def test_encode(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    for name in ("SST-2", "MRPC"):
        task = TASKS[name]
        rows = read_glue(task, "dev", write(tmp_path, name, FILES[name]))
        encoded = encode(task, rows, tokenizer, 64)
        assert set(encoded.column_names) == {"input_ids", "attention_mask", "label"}
        assert list(encoded["label"]) == list(rows["label"])
        texts = [text for text in (rows[0]["text_a"], rows[0]["text_b"]) if text is not None]
        assert encoded[0]["input_ids"] == tokenizer(*texts)["input_ids"]
        assert len(encode(task, rows, tokenizer, 2)[0]["input_ids"]) == 2


class TestScore:
    def test_accuracy(self) -> None:
        assert score(TASKS["MNLI"], [2, 1, 0, 0], [2, 1, 1, 0]) == 0.75

    def test_matthews(self) -> None:
        """Three true positives, one true negative, two false positives, one false negative."""
        predictions, labels = [1, 1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 1]
        expected = (3 * 1 - 2 * 1) / math.sqrt((3 + 2) * (3 + 1) * (1 + 2) * (1 + 1))
        assert score(TASKS["CoLA"], predictions, labels) == pytest.approx(expected)

    def test_spearman(self) -> None:
        """One exchange of neighbours among four: 1 − 6·2/(4·15)."""
        assert score(TASKS["STS-B"], [0.1, 0.9, 0.3, 4.0], [0.0, 1.0, 2.0, 5.0]) == pytest.approx(0.8)

    @pytest.mark.parametrize("name", ["CoLA", "STS-B"])
    def test_constant_predictions(self, name: str) -> None:
        assert score(TASKS[name], [1, 1, 1], [0, 1, 1]) == 0.0
        assert score(TASKS[name], [1, 1, 1], [1, 1, 1]) == 0.0

    @pytest.mark.parametrize("predictions", [[], [1], [[1, 0]]])
    def test_wrong_shape(self, predictions: list[Any]) -> None:
        with pytest.raises(GlueError, match="shape"):
            score(TASKS["SST-2"], predictions, [] if not predictions else [1, 0])

    def test_not_finite(self) -> None:
        with pytest.raises(GlueError, match="infinite or NaN"):
            predictions_of(TASKS["SST-2"], np.array([[0.1, math.nan]]))

    def test_logits(self) -> None:
        assert predictions_of(TASKS["SST-2"], np.array([[0.1, -3.0], [-1.0, 0.0]])).tolist() == [0, 1]
        assert predictions_of(TASKS["STS-B"], np.array([[2.5], [4.0]])).tolist() == [2.5, 4.0]


def test_missing_extra() -> None:
    require_extra("glue", "datasets")
    with pytest.raises(MissingExtraError, match=r"no_such_module not installed: pip install 'las_sj\[glue\]'"):
        require_extra("glue", "datasets", "no_such_module")
