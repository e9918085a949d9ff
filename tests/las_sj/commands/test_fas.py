"""python -m las_sj.fas: the three steps with tiny models, trainings that go on, and inputs that end in one line."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import Call, assert_one_line, contents, in_this_process, interrupted, one_thread
from programs import started
from safetensors.torch import load_file
from tiny_models import bert, convert_tiny, gpt2, save
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
)

from las_sj.commands import fas_pretrain
from las_sj.commands.fas import main
from las_sj.models import execution_of
from las_sj.training.unfinished import last_checkpoint

pytest.importorskip("datasets", reason="the extra glue is not installed")
pytest.importorskip("sklearn", reason="the extra glue is not installed")

GLUE = Path(__file__).parents[2] / "data" / "glue"
TEXT = "First Citizen: You are all resolved rather to die than to famish? All: Resolved, resolved.\n" * 40
WEIGHTS = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
FILES = {*WEIGHTS, "fas.json", "las_sample.safetensors", "losses.png"}
OF_DECODER = {*FILES, "generation_config.json"}
SHORT = ("--window", 16, "--batch-size", 2, "--evaluation-tokens", 64)
Models = dict[str, Path]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    with in_this_process(main, capfd) as call_here:
        yield call_here


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A tiny decoder, an encoder whose tokenizer has a mask, and a text."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "text.txt").write_text(TEXT)
    encoder = save(bert(BertForMaskedLM, vocab_size=520), folder / "bert")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(encoder)
    decoder = save(gpt2(vocab_size=512), folder / "gpt")
    return {"bert": encoder, "gpt": decoder, "text": folder / "text.txt"}


def report_of(folder: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    report: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads((folder / "fas.json").read_text())
    return report


def test_a_decoder_learns_and_is_written(call: Call, given: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--steps", 30, "--learning-rate", 3e-3, "--threshold-learning-rate", 1e-2, "--time-steps", 3, *SHORT)
    finished = call("pretrain", given["gpt"], "--text", given["text"], "--output", out, *options)
    assert finished.code == 0, finished.err
    report = report_of(out)
    before, after = report["quality"]["before"], report["quality"]["after"]
    assert {*before} == {"ann", "quantised", "spiking"}
    assert after["quantised"]["loss"] < before["quantised"]["loss"] - 0.5
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in OF_DECODER)}
    assert [*report["thresholds"]] == ["transformer.h.0.mlp.act", "transformer.h.1.mlp.act"]
    stored = load_file(out / "model.safetensors")
    for name, site in report["thresholds"].items():
        assert site["after"] != site["before"]
        assert float(stored[f"{name}.node.theta"]) == site["after"]
    assert re.search(r"after +SNN, uncalibrated \(T = 3\) +loss \d", finished.out)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert (execution_of(model).name, execution_of(model).time_steps) == ("temporal", 3)


def test_three_steps_of_an_encoder(call: Call, given: Models, tmp_path: Path) -> None:
    """Thresholds of step 1 come over once; the pooler's is new; calibration leaves weights alone."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    finished = call("pretrain", given["bert"], "--text", given["text"], "--output", first, "--steps", 3, *SHORT)
    assert finished.code == 0, finished.err
    task = ("--task", "sst2", "--data", GLUE, "--rows", 24, "--max-length", 16, "--batch-size", 8)
    finished = call("finetune", first, *task, "--output", second)
    assert finished.code == 0, finished.err
    assert contents(second) == FILES
    no = ("--output", tmp_path / "no")
    assert_one_line(call("finetune", first, *task, *no, "--levels", 4), "first is trained with 8 levels: leave out")
    assert_one_line(call("finetune", first, *task, *no, "--thresholds", 2), "first has thresholds, which are gone on")
    trained, tuned = report_of(first)["thresholds"], report_of(second)["thresholds"]
    assert [site for site in tuned if not tuned[site]["of_checkpoint"]] == ["bert.pooler.activation"]
    assert "cls.predictions.transform.transform_act_fn" in trained
    assert "before  ANN" not in finished.out
    taken = [site for site in tuned if tuned[site]["of_checkpoint"]]
    assert len(taken) == 2
    assert [tuned[site]["before"] for site in taken] == [trained[site]["after"] for site in taken]
    assert "thresholds of 2 sites come from" in finished.out
    assert re.search(r"after +quantised ANN \(L = 8\) +accuracy 0\.\d", finished.out)
    steps = ("--steps", 2, "--batches", 3, "--time-steps", 2)
    finished = call("calibrate", second, *task[:-2], "--batch-size", 4, "--output", third, *steps)
    assert finished.code == 0, finished.err
    weights, calibrated = (load_file(folder / "model.safetensors") for folder in (second, third))
    kept = [name for name in weights if not name.endswith(".node.theta")]
    assert all(torch.equal(weights[name], calibrated[name]) for name in kept)
    assert AutoModelForSequenceClassification.from_pretrained(third).config.quantization_config.settings.time_steps == 2
    assert_one_line(call("finetune", third, *task, *no), "third is calibrated .step 3")


def test_killed_and_repeated(call: Call, given: Models, tmp_path: Path) -> None:
    """SIGKILL in the midst of a training with dropout and masks; the same command ends with the same weights."""
    out, unfinished = tmp_path / "out", tmp_path / "out.unfinished"
    arguments = ["pretrain", given["bert"], "--text", given["text"], "--steps", 40, "--save-steps", 5, *SHORT]
    with started("-m", "las_sj.fas", *arguments, "--output", out) as running:
        while not running.ended and not (unfinished / "checkpoint-10" / "whole.json").exists():
            time.sleep(0.002)
        running.send(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    assert not out.exists()
    other = call(*arguments, "--output", out, "--learning-rate", 1e-3)
    assert_one_line(other, "out.unfinished is of a training with other learning rate: --restart begins anew")
    last = last_checkpoint(unfinished)
    assert last is not None
    state = (last / "optimizer.pt").rename(tmp_path / "kept")
    damaged = call(*arguments, "--output", out)
    assert_one_line(
        damaged, rf"{last.name} cannot be gone on from .its optimizer.pt is missing.: --restart begins anew$"
    )
    state.rename(last / "optimizer.pt")
    with one_thread():
        assert call(*arguments, "--output", out).code == 0
        assert call(*arguments, "--output", tmp_path / "whole").code == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    repeated, whole = report_of(out), report_of(tmp_path / "whole")
    assert {name for name in whole if repeated[name] != whole[name]} == {"seconds", "resumed_from"}
    assert repeated["resumed_from"] is not None
    assert not unfinished.exists()


def test_interrupted_training_says_what_is_kept(call: Call, given: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["pretrain", given["gpt"], "--text", given["text"], "--output", out, "--save-steps", 1, *SHORT]
    program = ("-m", "las_sj.fas", *arguments, "--steps", 600)
    last = interrupted(*program, shown=rb"\b[3-9]/600 .*loss=", folder=tmp_path, anew=True)
    assert re.search(r"interrupted: checkpoint-\d+ is kept in .*out.unfinished, the same command goes on", last)
    assert call(*arguments, "--steps", 2, "--restart").code == 0
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in OF_DECODER)}


def test_bfloat16_calls_keep_thresholds_and_weights_fp32(call: Call, given: Models, tmp_path: Path) -> None:
    options = ("--precision", "bfloat16", "--steps", 2, *SHORT)
    finished = call("pretrain", given["gpt"], "--text", given["text"], "--output", tmp_path / "out", *options)
    assert finished.code == 0, finished.err
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_thresholds_that_are_given(call: Call, given: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--thresholds", 2.0, "--steps", 1, *SHORT)
    assert call("pretrain", given["gpt"], "--text", given["text"], "--output", out, *options).code == 0
    assert {site["before"] for site in report_of(out)["thresholds"].values()} == {2.0}


USAGE: dict[str, tuple[tuple[object, ...], str]] = {
    "rate": (("--learning-rate", -1), "--learning-rate must be positive, got -1"),
    "threshold rate": (("--threshold-learning-rate", 0), "--threshold-learning-rate must be positive, got 0"),
    "steps": (("--steps", 0), r"--steps must lie in 1…\d+, got 0"),
    "epochs": (("--epochs", 0), r"--epochs must lie in 1…\d+, got 0"),
    "time steps": (("--time-steps", 33), "--time-steps must be an integer of 1 … 32, got 33"),
    "levels": (("--levels", 0), "--levels must be an integer of 1 … 127, got 0"),
    "mask": (("--mask-rate", 1), "--mask-rate must lie between 0 and 1"),
    "thresholds": (("--thresholds", 0), "--thresholds must lie in"),
    "window": (("--window", 7), "--window must be at least 8"),
    "half precision": (("--precision", "float16"), "--precision float16 is for GPUs"),
}


@pytest.mark.parametrize("case", list(USAGE))
def test_wrong_usage(case: str, call: Call, given: Models, tmp_path: Path) -> None:
    options, message = USAGE[case]
    arguments = ("pretrain", given["gpt"], "--text", given["text"], "--output", tmp_path / "out", *options)
    assert_one_line(call(*arguments), message, 2)
    assert contents(tmp_path) == set()


def test_bad_inputs(call: Call, given: Models, tmp_path: Path) -> None:
    """One clear line for each, and nothing is left behind."""
    out = ("--output", tmp_path / "out")
    text = ("--text", given["text"])
    (tmp_path / "short.txt").write_text("a few words")
    converted = save(convert_tiny(gpt2(vocab_size=512)), tmp_path / "las")
    (tmp_path / "there").mkdir()
    before = contents(tmp_path)
    bad: list[tuple[tuple[object, ...], str, int]] = [
        (("train",), "fas has no step 'train': it is one of pretrain, finetune, calibrate", 2),
        (("pretrain", given["gpt"], *out), "there is nothing to train on: give --text", 2),
        (("finetune", given["gpt"], *out), "there is nothing to train on: give --text, or --task", 2),
        (("finetune", given["gpt"], *out, *text, "--task", "mrpc"), "give either --task or --text", 2),
        (("finetune", given["gpt"], *out, *text, "--rows", 3), "--data and --rows belong to --task", 2),
        (("pretrain", given["gpt"], *out, "--text", tmp_path / "short.txt"), "too few for a --window of 64", 1),
        (
            ("pretrain", given["bert"], *out, *text, "--objective", "causal"),
            "bert is an encoder .bert., which has",
            1,
        ),
        (("pretrain", given["gpt"], *out, *text, "--objective", "masked"), "gpt is a decoder .gpt2., which has no", 1),
        (("pretrain", converted, *out, *text), "las is no checkpoint of rate codes alone", 1),
        (("calibrate", given["gpt"], *out, *text), "gpt is no checkpoint of rate codes: give the output of", 1),
        (("calibrate", tmp_path / "no", *out, *text), "there is no folder .*no: give the output of las-sj fas", 1),
        (("calibrate", given["gpt"], *out, *text, "--time-steps", 0), "--time-steps must be at least 1", 2),
        (("calibrate", given["gpt"], *out, *text, "--granularity", "site", "--search", "channel"), "finer than", 2),
        (("calibrate", given["gpt"], *out, *text, "--search", "none", "--steps", 0), "leave nothing to do", 2),
        (("finetune", given["bert"], *out, "--task", "rte", "--data", GLUE), "RTE/train.tsv", 1),
        (("pretrain", given["gpt"], *text, "--output", tmp_path / "there"), "there exists: give another folder", 1),
        (("pretrain", tmp_path / "no", *out, *text), "there is no folder .*no", 1),
    ]
    for arguments, message, code in bad:
        assert_one_line(call(*arguments), message, code)
        assert contents(tmp_path) == before, arguments


def test_several_processes(call: Call, given: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    finished = call("pretrain", given["gpt"], "--text", given["text"], "--output", tmp_path / "out")
    assert_one_line(finished, "a training runs in one process: start it without a launcher")


def test_steps_that_are_listed(call: Call) -> None:
    for arguments in ((), ("--help",)):
        finished = call(*arguments)
        assert (finished.code, finished.err) == (0, "")
        assert all(f"  {step} " in finished.out for step in ("pretrain", "finetune", "calibrate"))


def test_the_default_model_has_its_own_text() -> None:
    request = fas_pretrain.parse_arguments(["--output", "out"])
    assert (request.model, request.data.text, request.training.learning_rate) == (None, None, 9e-5)
