"""Every kind of lm-eval's tasks on a small model, against lm-eval's own figures for each side alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import bert, convert_tiny, gpt2
from transformers import AutoTokenizer, BertForSequenceClassification

import las_sj
from las_sj.checkpoint.loading import default_model
from las_sj.evaluation.errors import ZeroShotError
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult
from las_sj.evaluation.zero_shot import evaluate_zero_shot

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")

LONG = "to be or not to be, that is the question " * 40  # the model sees 64 tokens
TEXTS = ("my kingdom for a horse", LONG, "the rest is silence", "a")


@pytest.fixture(scope="module")
def pair() -> Pair:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    tokenizer.pad_token = tokenizer.eos_token
    ann = gpt2(vocab_size=len(tokenizer), n_positions=64)
    snn = convert_tiny(ann)
    las_sj.set_execution(snn, "accumulated")
    return Pair(ann, snn, tokenizer)


def task_of(**settings: Any) -> Any:
    """A task of lm-eval over rows that are made here."""
    from datasets import Dataset, DatasetDict
    from lm_eval.api.task import ConfigurableTask

    rows = [{"text": text, "label": index % 2, "choices": [" yes", " no, never"]} for index, text in enumerate(TEXTS)]
    usual = {
        "task": "small",
        "test_split": "test",
        "custom_dataset": lambda **_: DatasetDict(test=Dataset.from_list(rows)),
        "doc_to_text": "{{text}}",
        "metadata": {"version": 1.0},
    }
    return ConfigurableTask(config=usual | settings)


CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "f1", "acc_mutual_info")],
}
LETTERS = [" y", " n"]
PLAIN = CHOICE | {"target_delimiter": "", "metric_list": [{"metric": "acc"}], "doc_to_choice": lambda _: LETTERS}
SAID = {
    "output_type": "generate_until",
    "doc_to_target": "label",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}, {"metric": "bleu"}],
    "filter_list": [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
        for name, pattern in (("strict", "^(\\w+)$"), ("flexible", "(\\w)"))
    ],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_target": "{{text}}",
    "doc_to_text": "",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
}
LAST = {
    "output_type": "loglikelihood",
    "doc_to_target": " horse",
    "metric_list": [{"metric": "acc"}, {"metric": "perplexity", "aggregation": "perplexity"}],
}


def evaluated(pair: Pair, settings: dict[str, Any], folder: Path) -> TaskResult:
    journal = Journal(folder / "work", {})
    result = evaluate_zero_shot(task_of(**settings), pair, journal, 3, None, 0)
    journal.close()
    assert result is not None
    return result


@pytest.mark.parametrize("settings", [CHOICE, SAID, ROLLING, LAST], ids=lambda settings: settings["output_type"])
def test_figures_are_those_of_lm_eval(settings: dict[str, Any], pair: Pair, tmp_path: Path) -> None:
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    result = evaluated(pair, settings, tmp_path)
    assert (result.rows, result.unit) == (len(TEXTS), "questions")
    assert result.spikes_per_neuron is not None
    found = {m.metric: (m.ann, m.snn) for m in result.measures}
    kinds = [entry["name"] for entry in settings.get("filter_list", ())] or ["none"]
    for side, model in ((0, pair.ann), (1, pair.snn)):
        alone = HFLM(pretrained=model, tokenizer=pair.tokenizer, batch_size=1)
        task = task_of(**settings, num_fewshot=0)
        loaded = TaskManager(include_defaults=False).load([task])
        wanted = evaluate(alone, loaded, bootstrap_iters=0)["results"]["small"]
        for kind in kinds:
            for metric in task.aggregation():
                name = metric if kinds == ["none"] else f"{metric} ({kind})"
                assert found[name][side] == pytest.approx(wanted[f"{metric},{kind}"], rel=2e-3)
    for m in result.measures:
        assert m.low <= m.difference <= m.high
    assert evaluated(pair, settings, tmp_path).measures == result.measures  # from what was kept


def test_agreement_of_choices(pair: Pair, tmp_path: Path) -> None:
    """The share of questions for which lm-eval finds the same choice of two models that differ."""
    other = copy.deepcopy(pair.ann)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            weight += weight.std() * torch.randn(weight.shape, generator=generator)
    other = convert_tiny(other)
    las_sj.set_execution(other, "accumulated")
    chosen = [choices_of(model, pair.tokenizer) for model in (pair.ann, other)]
    wanted = sum(a == b for a, b in zip(*chosen, strict=True)) / len(TEXTS)
    assert 0 < wanted < 1
    assert evaluated(Pair(pair.ann, other, pair.tokenizer), PLAIN, tmp_path).agreement == wanted


def choices_of(model: Any, tokenizer: Any) -> list[int]:
    """What a model chooses, from its log-likelihoods of each choice."""
    chosen = []
    for index in range(len(TEXTS)):
        likelihoods = []
        for choice in LETTERS:
            context = tokenizer(TEXTS[index]).input_ids
            wanted = tokenizer(TEXTS[index] + choice).input_ids[len(context) :]
            ids = torch.tensor([[*context, *wanted][-65:]])
            with torch.no_grad():
                found = model(ids[:, :-1]).logits.log_softmax(-1)[0, -len(wanted) :]
            likelihoods.append(float(found.gather(1, torch.tensor(wanted)[:, None]).sum()))
        chosen.append(max(range(2), key=lambda number: likelihoods[number]))
    return chosen


def test_no_agreement_where_nothing_is_predicted(pair: Pair, tmp_path: Path) -> None:
    assert evaluated(pair, ROLLING, tmp_path).agreement is None


def test_a_changed_prompt_is_asked_anew(pair: Pair, tmp_path: Path) -> None:
    one = evaluated(pair, LAST, tmp_path)
    other = evaluated(pair, LAST | {"doc_to_target": " question"}, tmp_path)
    assert {m.metric: m.ann for m in one.measures} != {m.metric: m.ann for m in other.measures}
    assert evaluated(pair, LAST, tmp_path).measures == one.measures


def test_a_classifier(tmp_path: Path) -> None:
    model = bert(BertForSequenceClassification, num_labels=2)
    with pytest.raises(ZeroShotError, match="BertForSequenceClassification does not predict the next token"):
        evaluated(Pair(model, model, None), CHOICE, tmp_path)


@pytest.mark.parametrize(("answer", "says"), [(LONG, "sees 64: leave it out"), ("", "without a token")])
def test_an_answer_that_cannot_be(answer: str, says: str, pair: Pair, tmp_path: Path) -> None:
    def choices(row: dict[str, Any]) -> list[str]:
        return [" yes", answer if row["text"] == TEXTS[-1] else " no"]

    settings = {"doc_to_choice": choices, "target_delimiter": "", "metric_list": [{"metric": "acc"}]}
    with pytest.raises(ZeroShotError, match=says):
        evaluated(pair, CHOICE | settings, tmp_path)
    assert not [*tmp_path.rglob("*.jsonl")]


def test_outside_of_a_repository(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated(pair, LAST, tmp_path)
    assert "repository" not in capfd.readouterr().err
