"""The parts of an evaluation, against plain ways to compute the same."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import bert, convert_tiny, gpt2
from transformers import AutoTokenizer, BertForSequenceClassification

import las_sj
from las_sj.checkpoint.loading import default_model
from las_sj.data.text import TextError
from las_sj.evaluation import language, yes_no
from las_sj.evaluation.classification import columns_of
from las_sj.evaluation.errors import GlueError, SourceError
from las_sj.evaluation.glue import TASKS
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.markdown import figure
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.report import EvaluationReport, RunSettings
from las_sj.evaluation.result import Measure, TaskResult, measure

pytest.importorskip("scipy", reason="the extra evaluate is not installed")


@given(st.integers(2, 200), st.integers(1, 40), st.integers(1, 40))
def test_windows_predict_each_token_once(length: int, window: int, stride: int) -> None:
    stride = min(window, stride)
    offsets = [(2 * index, 2 * index + 2) for index in range(length)]
    windows = language.windows_of(range(length), offsets, 2 * length, window, stride)
    predicted = [index for w in windows for index in range(w.first, w.end)]
    assert predicted == list(range(1, length))
    for w in windows:
        assert w.end - 1 - w.start <= window
        assert w.first - w.start >= min(w.first, window - stride + 1)  # context
    assert [w.characters for w in windows] == [
        (offsets[w.first][0], 2 * length if w.end == length else offsets[w.end][0]) for w in windows
    ]


@given(st.text(alphabet="ab \n", min_size=1, max_size=60), st.integers(1, 7))
def test_words_are_counted_once(text: str, step: int) -> None:
    """Pieces of any length, cut anywhere: their words add up to those of the text."""
    starts = range(0, len(text), step)
    windows = [language.Window(0, 1, 2, (start, min(start + step, len(text)))) for start in starts]
    counts = language._counts(text, windows)
    assert counts[language.WORD].sum() == len(text.split())
    assert counts[language.BYTE].sum() == len(text.encode())


TEXT = "The king is dead, said the queen — and nobody wept for him.\nLong live the king! " * 4


@pytest.fixture(scope="module")
def pair() -> Pair:
    ann = gpt2(vocab_size=512)
    snn = convert_tiny(ann)
    las_sj.set_execution(snn, "accumulated")
    return Pair(ann, snn, AutoTokenizer.from_pretrained(default_model()))


def evaluated(pair: Pair, window: int, stride: int, limit: int | None, folder: Path) -> TaskResult:
    text = language.prepare_text(pair.ann, pair.tokenizer, (TEXT, "a text"), window, stride, 3, limit)
    return language.evaluate_text(language.TEXT_TASKS["text"], pair, Journal(folder / "work", {}), text, 0)


@torch.no_grad()
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (16, 4), (64, 64), (64, 7)])
def test_perplexity_is_that_of_a_plain_loop(window: int, stride: int, pair: Pair, tmp_path: Path) -> None:
    """Token by token, with the context that the windows promise."""
    encoded = pair.tokenizer(TEXT, return_offsets_mapping=True)
    ids, start_of_second = encoded["input_ids"], encoded["offset_mapping"][1][0]
    loss = 0.0
    for first in range(1, len(ids), stride):
        end = min(first + stride, len(ids))
        for position in range(first, end):
            context = torch.tensor([ids[max(0, end - 1 - window) : position]])
            logits = pair.ann(input_ids=context).logits[0, -1].double()
            loss += F.cross_entropy(logits, torch.tensor(ids[position])).item()
    result = evaluated(pair, window, stride, None, tmp_path)
    found = {m.metric: m.ann for m in result.measures}
    words = len(TEXT.split()) - (start_of_second > 0)
    assert result.rows == len(ids) - 1
    assert found[language.TOKEN] == pytest.approx(math.exp(loss / (len(ids) - 1)), rel=1e-5)
    assert found[language.WORD] == pytest.approx(math.exp(loss / words), rel=1e-4)
    scored = len(TEXT[start_of_second:].encode())
    assert found[language.BYTE] == pytest.approx(loss / math.log(2) / scored, rel=1e-5)
    for m in result.measures:
        assert m.snn == pytest.approx(m.ann, rel=2e-2)
        assert m.low <= m.difference <= m.high


def test_a_limit_cuts_the_text(pair: Pair, tmp_path: Path) -> None:
    result = evaluated(pair, 16, 8, 20, tmp_path)
    assert result.rows == 19
    assert "20 tokens" in result.description


def test_a_text_that_is_too_short(pair: Pair) -> None:
    with pytest.raises(TextError, match="fewer than two tokens"):
        language.prepare_text(pair.ann, pair.tokenizer, ("a", "a text"), 16, 8, 3, None)


def test_a_sample_may_end_within_a_character(tmp_path: Path) -> None:
    content = "for ever — and a day …".encode()
    for cut in (1, 2):
        (tmp_path / "text").write_bytes(content[:-cut])
        assert language.read_file(tmp_path / "text") == "for ever — and a day "
    (tmp_path / "text").write_bytes(b"for\xffever and a day")
    with pytest.raises(TextError, match="byte 3"):
        language.read_file(tmp_path / "text")
    (tmp_path / "text").write_bytes(b" ")
    with pytest.raises(TextError, match="empty"):
        language.read_file(tmp_path / "text")


def mean(rows: np.ndarray[Any, Any]) -> float:
    return float(rows.mean())


def test_intervals_cover_a_known_difference() -> None:
    """Rows with a difference of 1/4 ± 1/2 have a mean whose error is 1/2 / √n."""
    draws = np.random.default_rng(0)
    ann = draws.normal(size=400)
    found = measure("mean", mean, (ann, ann + draws.normal(0.25, 0.5, 400)), seed=0)
    half = 1.96 * 0.5 / math.sqrt(400)
    assert found.low < 0.25 < found.high
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
    assert found.ann == mean(ann)


def test_equal_predictions_have_no_interval() -> None:
    found = measure("mean", mean, (np.ones(5), np.ones(5)), seed=0)
    assert (found.low, found.difference, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("changed", [0, 1])
def test_an_interval_of_no_width_is_explained(changed: int) -> None:
    ann, snn = np.ones(40), np.ones(40)
    snn[:changed] = 0
    found = [measure("mean", mean, (ann, snn), seed=0)]
    result = TaskResult("task", "rows", 40, "rows", found, 1 - changed / 40, ann_seconds=1.0, snn_seconds=1.0)
    run = RunSettings(8, None, 1024, None, "accumulated", "float32", "cpu", 0, {})
    report = EvaluationReport("m", "a", las_sj.LASConfig(), run, files={}, date="today", results=[result])
    assert ("up to 3/n may" in report.to_markdown()) == (changed == 0)


def test_intervals_are_reproducible() -> None:
    ann, snn = np.arange(20.0), np.arange(20.0) ** 1.01
    assert measure("mean", mean, (ann, snn), seed=3) == measure("mean", mean, (ann, snn), seed=3)
    assert measure("mean", mean, (ann, snn), seed=3) != measure("mean", mean, (ann, snn), seed=4)


def test_classes_go_by_name() -> None:
    names = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    model = bert(BertForSequenceClassification, id2label=names, label2id={name: i for i, name in names.items()})
    assert columns_of(model, TASKS["MNLI"]) == [2, 1, 0]
    assert columns_of(bert(BertForSequenceClassification, num_labels=3), TASKS["MNLI"]) == [0, 1, 2]
    with pytest.raises(GlueError, match="no classifier of SST-2, which has 2 outputs"):
        columns_of(model, TASKS["SST-2"])
    with pytest.raises(GlueError, match="no classifier of STS-B, which has 1 output:"):
        columns_of(bert(), TASKS["STS-B"])


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no, there is none", False),
        ("There is not.", False),
        ("Yes. No doubt.", True),
        ("Nothing else", True),  # as POPE counts
        ("", True),
    ],
)
def test_what_counts_as_yes(answer: str, yes: bool) -> None:
    assert yes_no.says_yes(answer) == yes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "+0.0000"),
        (8.2e-6, "+8.2e-06"),
        (-4e-5, "-4.0e-05"),
        (6e-5, "+0.0001"),
        (-0.5, "-0.5000"),
        (2e6, "+2e+06"),
    ],
)
def test_figures_that_are_not_zero_do_not_look_like_it(value: float, text: str) -> None:
    assert figure(value, "+") == text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_that_are_no_numbers_are_errors(value: float) -> None:
    """A table would show an empty cell."""
    found = TaskResult("text", "", 1, "tokens", [Measure("perplexity", 2.0, value, math.nan, math.nan)], None, 1.0, 1.0)
    with pytest.raises(SourceError, match=r"text: the perplexity of the SNN is (nan|inf): check the model's weights"):
        found.check_finite()


def test_outputs_that_are_no_numbers_are_errors() -> None:
    ann = gpt2()
    pair = Pair(ann, convert_tiny(ann, time_steps=4), None)
    ids = torch.ones(1, 4, dtype=torch.long)
    ann.lm_head.weight.data[3] = math.nan
    with pytest.raises(SourceError, match="the ANN's outputs are NaN"):
        pair.run({"input_ids": ids})
    with pytest.raises(TextError, match="token 100, but the model knows 100 tokens"):
        pair.run({"input_ids": ids * 100})
