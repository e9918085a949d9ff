"""What a training sees: each row follows from its number and the seed, and from nothing that happened before."""

import pytest
import torch
from tiny_models import token_ids
from transformers import AutoTokenizer, BertConfig, GPT2Config, PretrainedConfig, T5Config, ViTConfig

from las_sj.checkpoint.loading import default_model
from las_sj.data.text import TextError
from las_sj.training.errors import TrainingError
from las_sj.training.language import IGNORED, Masking, objective_of, windows_of
from las_sj.training.rows import Row, TrainingRows, generator_of


def rows(count: int = 5) -> list[Row]:
    return [{"number": number} for number in range(count)]


def seen(order: TrainingRows) -> list[int]:
    return [order[number]["number"] for number in range(len(order))]


def test_every_epoch_has_each_row_once_in_an_order_of_its_own() -> None:
    numbers = seen(TrainingRows(rows(), 15, seed=1))
    epochs = [numbers[start : start + 5] for start in (0, 5, 10)]
    assert [sorted(epoch) for epoch in epochs] == [[0, 1, 2, 3, 4]] * 3
    assert epochs[0] != epochs[1]
    assert numbers != seen(TrainingRows(rows(), 15, seed=2))


def test_a_row_does_not_depend_on_those_before() -> None:
    def change(row: Row, generator: torch.Generator) -> Row:
        return row | {"drawn": float(torch.rand(1, generator=generator))}

    order, again = (TrainingRows(rows(), 15, 3, change) for _ in range(2))
    torch.rand(7)
    whole = [order[number] for number in range(15)]
    assert [again[number] for number in reversed(range(15))] == whole[::-1]
    assert len({row["drawn"] for row in whole}) == 15


def test_rows_of_a_step_are_about_as_long() -> None:
    lengths = torch.randint(1, 60, (200,), generator=generator_of(1)).tolist()
    texts = [{"number": number, "input_ids": [0] * length} for number, length in enumerate(lengths)]
    numbers = seen(TrainingRows(texts, 400, 1, grouped=8))
    epochs = numbers[:200], numbers[200:]
    assert [sorted(epoch) for epoch in epochs] == [[*range(200)]] * 2
    assert epochs[0] != epochs[1]

    def padding(order: list[int]) -> int:
        steps = [[lengths[number] for number in order[start : start + 8]] for start in range(0, 200, 8)]
        return sum(max(step) * len(step) - sum(step) for step in steps)

    assert padding(epochs[0]) < padding(seen(TrainingRows(texts, 200, 1))) / 3


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="there is nothing to train on"):
        TrainingRows([], 3, 0)


@pytest.fixture(scope="module")
def tokenizer() -> AutoTokenizer:
    found = AutoTokenizer.from_pretrained(default_model())
    found.add_special_tokens({"mask_token": "<mask>"})
    return found


def test_masks_hide_about_the_share_that_is_asked_for(tokenizer: AutoTokenizer) -> None:
    masking = Masking(tokenizer, 0.15)
    ids = token_ids(1, 20_000)[0]
    special = torch.zeros_like(ids)
    special[:10_000] = 1
    hidden = masking({"input_ids": ids, "special_tokens_mask": special}, generator_of(0))
    chosen = hidden["labels"] != IGNORED
    assert not chosen[:10_000].any()
    assert float(chosen[10_000:].float().mean()) == pytest.approx(0.15, abs=0.02)
    assert torch.equal(hidden["labels"][chosen], ids[chosen])
    assert torch.equal(hidden["input_ids"][~chosen], ids[~chosen])


def test_at_least_one_token_is_hidden(tokenizer: AutoTokenizer) -> None:
    """A loss over none would be NaN."""
    row = {"input_ids": token_ids(1, 8)[0], "special_tokens_mask": torch.tensor([1, 1, 1, 1, 1, 1, 1, 0])}
    for seed in range(20):
        hidden = Masking(tokenizer, 0.01)(row, generator_of(seed))
        assert (hidden["labels"] != IGNORED).nonzero().flatten().tolist() == [7]


def test_masks_need_a_token_for_it() -> None:
    with pytest.raises(TrainingError, match="the tokenizer has no mask token"):
        Masking(AutoTokenizer.from_pretrained(default_model()), 0.15)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_windows_are_whole(tokenizer: AutoTokenizer, objective: str) -> None:
    windows = windows_of(tokenizer, "to be or not to be\n\nthat is the question\n" * 5, 16, objective)
    assert len(windows) > 2
    assert {len(row["input_ids"]) for row in windows} == {16}
    assert all(("special_tokens_mask" in row) == (objective == "masked") for row in windows)
    with pytest.raises(TextError, match=r"the text gives \d+ tokens, too few for a --window of 16"):
        windows_of(tokenizer, "to be", 16, objective)


@pytest.mark.parametrize(("config", "objective"), [(BertConfig(), "masked"), (GPT2Config(), "causal")])
def test_objective_follows_from_the_model(config: PretrainedConfig, objective: str) -> None:
    assert objective_of(config, "m") == objective
    other = {"masked": "causal", "causal": "masked"}[objective]
    with pytest.raises(TrainingError, match=f"which has no {other} language modelling: --objective {objective}"):
        objective_of(config, "m", other)


@pytest.mark.parametrize("config", [T5Config(), ViTConfig()])
def test_models_that_are_neither(config: PretrainedConfig) -> None:
    with pytest.raises(TrainingError, match="neither a decoder nor an encoder of text"):
        objective_of(config, "m")
