"""A conversion that does not end well leaves the model as it was."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import MODELS, Model, calibration_batches, convert_tiny, relative_error, token_ids
from torch import Tensor, nn

import las_sj
from las_sj.conversion.all_or_nothing import all_or_nothing
from las_sj.models.execution import is_converted

NAMES = ("gpt2", "llama", "bert-masked-lm")


def everything_of(model: Model) -> dict[str, Any]:
    """Classes, attributes, registries and hooks of every module, and the config."""
    known: dict[str, Any] = {"config": model.config.to_dict(), "id of config": id(model.config)}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            content = {key: id(item) for key, item in value.items()} if isinstance(value, dict) else None
            known[f"{name}.{attribute}"] = (id(value), content)
        known[name] = type(module)
    return known


class _Stops:
    """Calibration data whose second batch ends the conversion."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Any:
        yield calibration_batches()[0]
        raise self.error


BAD: dict[str, Any] = {
    "token id": [calibration_batches()[0], {"input_ids": torch.full((2, 5), 9999)}],
    "interrupted": _Stops(KeyboardInterrupt()),
    "out of memory": _Stops(MemoryError()),
    "unknown argument": [calibration_batches()[0], {"pixels": torch.ones(2, 5)}],
    "infinite": [calibration_batches()[0], {"inputs_embeds": torch.full((2, 5, 32), torch.inf)}],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reason", BAD)
def test_the_model_is_as_it_was(name: str, reason: str) -> None:
    model = MODELS[name]().train()
    with torch.no_grad():
        expected: Tensor = copy.deepcopy(model).eval()(input_ids=token_ids())[0]
    before = everything_of(model)
    with pytest.raises((IndexError, KeyboardInterrupt, MemoryError, TypeError, ValueError)):
        las_sj.convert(model, None, BAD[reason])
    assert everything_of(model) == before
    assert not is_converted(model)
    assert model.training
    with torch.no_grad():
        assert torch.equal(model.eval()(input_ids=token_ids())[0], expected)
    snn = las_sj.convert(model, None, calibration_batches())  # and it can be converted now
    with torch.no_grad():
        assert relative_error(snn(input_ids=token_ids())[0], expected) < 5e-4


def test_islands_that_do_not_run_leave_nothing() -> None:
    model = MODELS["gpt2"]()
    before = everything_of(model)
    with pytest.raises(las_sj.models.UnsupportedModelError, match="names no module"):
        las_sj.convert(model, las_sj.LASConfig(keep_analog=("nothing",)), calibration_batches())
    assert everything_of(model) == before


def test_what_ends_well_stays() -> None:
    module = nn.Linear(2, 2)
    with all_or_nothing(module):
        module.register_buffer("new", torch.ones(1))
    assert "new" in dict(module.named_buffers())


def test_a_converted_model_is_no_others(tmp_path: Any) -> None:
    """Two conversions of copies share nothing that one of them writes."""
    ann = MODELS["gpt2"]()
    first, second = convert_tiny(ann), convert_tiny(ann, time_steps=8)
    assert first.config is not second.config
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    for folder, time_steps in (("first", 16), ("second", 8)):
        loaded = type(ann).from_pretrained(tmp_path / folder)
        assert loaded.las_execution.time_steps == time_steps
