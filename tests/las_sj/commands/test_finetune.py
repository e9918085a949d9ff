"""python -m las_sj.finetune: real training of a tiny BERT, and every input that must end in one clear line."""

import json
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

import pytest
import safetensors.torch
import torch
from commands import Call, assert_interruptible, assert_one_line, contents, in_this_process
from programs import ENVIRONMENT
from tiny_models import bert, convert_tiny, save
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification

from las_sj.commands.finetune import main

pytest.importorskip("datasets", reason="the extra glue is not installed")
pytest.importorskip("sklearn", reason="the extra glue is not installed")

SHIPPED = Path(__file__).parents[2] / "data" / "glue"
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "finetune.json"}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    with in_this_process(main, capfd) as call_here:
        yield call_here


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, with the default model's tokenizer."""
    return save(bert(vocab_size=512, initializer_range=0.02), tmp_path_factory.mktemp("models") / "bert")


def sst2(folder: Path, rows: int) -> Path:
    """A data folder whose development rows are the training rows, so that what was learned shows."""
    lines = (SHIPPED / "SST-2" / "train.tsv").read_text().split("\n")[: rows + 1]
    (folder / "SST-2").mkdir()
    for split in ("train", "dev"):
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("grouped", [False, True])
def test_learns(grouped: bool, call: Call, encoder: Path, tmp_path: Path) -> None:
    data, out = sst2(tmp_path, 64), tmp_path / "out"
    options = ("--epochs", 30, "--batch-size", 8, "--learning-rate", 3e-3, "--max-length", 48, "--seed", 3)
    length = ["--group-by-length"] * grouped
    finished = call(encoder, "--task", "SST-2", "--data", data, "--output", out, *options, *length)
    assert finished.code == 0, finished.err
    report = json.loads((out / "finetune.json").read_text())
    assert report["value"] > 0.9
    assert report["seconds"] > 0
    assert {key: report[key] for key in ("model", "task", "metric", "rows", "seed", "settings")} == {
        "model": str(encoder),
        "task": "SST-2",
        "metric": "accuracy",
        "rows": {"train": 64, "dev": 64},
        "seed": 3,
        "settings": {
            "epochs": 30,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "max_length": 48,
            "group_by_length": grouped,
            "device": "cpu",
        },
    }
    assert f"SST-2 dev accuracy: {report['value']:.4f} (64 rows trained on, 64 scored)" in finished.out
    assert "loss=" in finished.err
    assert contents(out) == FILES


def test_written_model_scores_the_same(call: Call, encoder: Path, tmp_path: Path) -> None:
    """Loaded again, it has the names of the classes and gives the reported figure."""
    out = tmp_path / "out"
    arguments = ("--task", "SST-2", "--data", SHIPPED, "--rows", 64, "--learning-rate", 3e-3, "--output", out)
    finished = call(encoder, *arguments)
    assert finished.code == 0, finished.err
    report = json.loads((out / "finetune.json").read_text())
    assert report["rows"] == {"train": 64, "dev": 100}
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert isinstance(model, BertForSequenceClassification)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.dtype == torch.float32
    lines = [line.split("\t") for line in (SHIPPED / "SST-2" / "dev.tsv").read_text().strip("\n").split("\n")[1:]]
    right = 0
    for text, label in lines:
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=64)).logits
        right += int(logits.argmax()) == int(label)
    assert report["value"] == pytest.approx(right / 100)


def test_regression(call: Call, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "STS-B").mkdir()
    rows = "".join(f"a man number {i}\ta man number {i % 3}\t{i % 6}.0\n" for i in range(12))
    for split in ("train", "dev"):
        (tmp_path / "STS-B" / f"{split}.tsv").write_text(f"sentence1\tsentence2\tscore\n{rows}")
    finished = call(encoder, "--task", "STS-B", "--data", tmp_path, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    report = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert report["metric"] == "Spearman correlation"
    assert -1 <= report["value"] <= 1
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


def test_same_seed_same_weights(call: Call, encoder: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        arguments = ("--task", "SST-2", "--data", SHIPPED, "--rows", 32, "--seed", seed)
        assert call(encoder, *arguments, "--output", tmp_path / name).code == 0
    first, second, third = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("first", "second", "third"))
    assert first == second
    assert first != third


def test_overwrite(call: Call, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (encoder, "--task", "SST-2", "--data", SHIPPED, "--rows", 8, "--output", out)
    out.mkdir()
    (out / "las_report.json").write_text("{}")  # of a conversion, which is not this command's to replace
    assert_one_line(call(*arguments), "exists: give another folder, or --overwrite")
    assert_one_line(call(*arguments, "--overwrite"), "not the output of a fine-tuning .it has no finetune.json")
    assert contents(out) == {"las_report.json"}
    (out / "las_report.json").unlink()
    (out / "finetune.json").write_text(json.dumps({"files": ["finetune.json"]}))
    assert call(*arguments, "--overwrite").code == 0
    assert contents(out) == FILES


Broken = tuple[Callable[[Path, Path], list[object]], str]


def option(*arguments: object) -> Callable[[Path, Path], list[object]]:
    return lambda encoder, folder: [encoder, "--task", "SST-2", "--data", SHIPPED, *arguments]


def malformed(encoder: Path, folder: Path) -> list[object]:
    data = sst2(folder, 4)
    with (data / "SST-2" / "train.tsv").open("a") as file:
        file.write("a\tb\tc\n")
    return [encoder, "--task", "SST-2", "--data", data]


def few_tokens(encoder: Path, folder: Path) -> list[object]:
    """Weights for fewer tokens than the tokenizer has."""
    model = folder / "model"
    bert().save_pretrained(model)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(model)
    return [model, "--task", "SST-2", "--data", SHIPPED]


def without_weight(encoder: Path, folder: Path) -> list[object]:
    model = folder / "model"
    bert(vocab_size=512).save_pretrained(model)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(model)
    tensors = safetensors.torch.load((model / "model.safetensors").read_bytes())
    del tensors["encoder.layer.1.output.dense.bias"]
    safetensors.torch.save_file(tensors, model / "model.safetensors", {"format": "pt"})
    return [model, "--task", "SST-2", "--data", SHIPPED]


def converted(encoder: Path, folder: Path) -> list[object]:
    model = folder / "model"
    convert_tiny(bert(BertForSequenceClassification, num_labels=2)).save_pretrained(model)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(model)
    return [model, "--task", "SST-2", "--data", SHIPPED]


def without_tokenizer(encoder: Path, folder: Path) -> list[object]:
    bert(vocab_size=512).save_pretrained(folder / "model")
    return [folder / "model", "--task", "SST-2", "--data", SHIPPED]


BROKEN: dict[str, Broken] = {
    "missing folder": (
        lambda encoder, folder: [folder / "no", "--task", "SST-2", "--data", SHIPPED],
        "there is no folder .*/no: check the path",
    ),
    "folder without a model": (lambda encoder, folder: [folder, "--task", "SST-2", "--data", SHIPPED], "config.json"),
    "no tokenizer": (without_tokenizer, "no tokenizer in .*model"),
    "tokens without weights": (few_tokens, r"the tokenizer gives token \d+, but the model knows 100 tokens"),
    "missing weight": (without_weight, r"lacks weights of \w+: bert.encoder.layer.1.output.dense.bias"),
    "converted model": (converted, r"model is quantised \(las\): give the original model"),
    "missing file": (lambda encoder, folder: [encoder, "--task", "RTE", "--data", SHIPPED], "RTE/train.tsv"),
    "malformed row": (malformed, r"train.tsv, line 6: 3 columns, expected 2"),
    "rows": (option("--rows", 0), "--rows must be at least 1, got 0"),
    "epochs": (option("--epochs", 0), "--epochs must be at least 1, got 0"),
    "batch": (option("--batch-size", 0), "--batch-size must be at least 1, got 0"),
    "length": (option("--max-length", 3), "--max-length must be at least 4, got 3"),
    "rate": (option("--learning-rate", "nan"), "--learning-rate must be positive, got nan"),
}
USAGE = {"rows", "epochs", "batch", "length", "rate"}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_input(case: str, call: Call, encoder: Path, tmp_path: Path) -> None:
    build, message = BROKEN[case]
    arguments = build(encoder, tmp_path)
    before = contents(tmp_path)
    code = 2 if case in USAGE else 1
    assert_one_line(call(*arguments, "--output", tmp_path / "out"), message, code)
    assert contents(tmp_path) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu(call: Call, encoder: Path, tmp_path: Path) -> None:
    finished = call(*option("--device", "cuda")(encoder, tmp_path), "--output", tmp_path / "out")
    assert_one_line(finished, "--device cuda: torch finds no such device")


def test_diverged(call: Call, encoder: Path, tmp_path: Path) -> None:
    finished = call(*option("--learning-rate", 1e30, "--rows", 64)(encoder, tmp_path), "--output", tmp_path / "out")
    assert finished.code == 1
    assert finished.visible[-1].startswith("error: ")
    assert "NaN" in finished.visible[-1]
    assert contents(tmp_path) == set()


def test_unknown_task(encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([str(encoder), "--task", "SST2", "--output", str(tmp_path / "out")])
    assert raised.value.code == 2
    assert re.search("argument --task: invalid choice: 'SST2' .*SST-2", capfd.readouterr().err)


def test_missing_extra(call: Call, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        return None if name == "sklearn" else find_spec(name)

    monkeypatch.setattr("las_sj.extras.find_spec", find)
    finished = call(*option()(encoder, tmp_path), "--output", tmp_path / "out")
    assert_one_line(finished, r"sklearn not installed: pip install 'las_sj\[glue\]'")


def test_interrupt(encoder: Path, tmp_path: Path) -> None:
    """Ctrl-C in the midst of training, in a process of its own."""
    command = ["-m", "las_sj.finetune", encoder, "--task", "SST-2", "--data", SHIPPED]
    command += ["--output", "out", "--epochs", "100000"]
    caches = {"TORCHINDUCTOR_CACHE_DIR": gettempdir()}  # torch's own
    environment = {**ENVIRONMENT, **caches, "TMPDIR": str(tmp_path)}
    assert_interruptible(*command, shown=b"loss=", folder=tmp_path, environment=environment, anew=True)
