"""Models and data to evaluate."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Call, in_this_process
from tiny_models import bert, save
from transformers import BertForSequenceClassification

from las_sj.commands.convert import main as convert
from las_sj.commands.evaluate import main

ROWS = {
    "zeroshot/piqa/dev.jsonl": [{"goal": "To be?", "sol1": "not to be", "sol2": "to sleep"}] * 3,
    "superglue/COPA/val.jsonl": [
        {"premise": "The king fell.", "choice1": "He wept.", "choice2": "He laughed.", "question": "cause", "label": 0},
        {
            "premise": "She wept.",
            "choice1": "He came.",
            "choice2": "It rained.",
            "question": "effect",
            "label": 1,
        },
    ],
    "lambada/lambada_test.jsonl": [{"text": "to be or not to be"}, {"text": "my kingdom for a horse"}],
    "zeroshot/winogrande/dev.jsonl": [
        {"question": "Ann saw Bob and _ waved.", "choices": ["Ann", "Bob"], "label": 0},
        {"question": "Ann saw Bob so _ hid.", "choices": ["Ann", "Bob"], "label": 1},
    ],
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    with in_this_process(main, capfd) as call_here:
        yield call_here


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = bert(BertForSequenceClassification, vocab_size=512, num_labels=2)
    return save(model, tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model: GPT-2, really trained."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    convert(["--output", str(folder), "--calibration-tokens", "1024", "--evaluation-tokens", "256"])
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name, rows in ROWS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "zeroshot/piqa/dev-labels.lst").write_text("0\n1\n0\n")
    return folder
