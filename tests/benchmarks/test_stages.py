"""What the harness asks of types that convert: right answers for a sound network, others for a broken one."""

import copy
from typing import Any

import pytest
import torch
from every_type.building import Subject
from every_type.generation import in_double_precision, same_tokens
from every_type.inputs import inputs_of
from every_type.mappings import MAPPINGS, entries_of, much_used_entries
from every_type.padding import errors_with_padding
from every_type.placing import same_bits_anywhere
from every_type.stages import STAGES
from every_type.weights import randomize
from transformers import (
    GPTJConfig,
    GPTJForCausalLM,
    ViTConfig,
    ViTForImageClassification,
    XGLMConfig,
    XGLMForCausalLM,
)

import las_sj
from las_sj.models import named_sites


@pytest.fixture(scope="module")
def subject() -> Subject:
    config = GPTJConfig(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4, n_inner=16)
    torch.manual_seed(0)
    model = randomize(GPTJForCausalLM(config))
    return Subject(model, next(inputs_of(model, "causal-lm")))


@pytest.fixture(scope="module")
def snn(subject: Subject) -> Any:
    return las_sj.convert(copy.deepcopy(subject.model), None, [subject.inputs.make(seed) for seed in (1, 2)])


@pytest.fixture(scope="module")
def answers(snn: Any, subject: Subject) -> dict[str, str]:
    return {name: stage(snn, subject) for name, stage in STAGES.items()}


def test_answers_of_a_sound_network(answers: dict[str, str], snn: Any) -> None:
    assert answers["generation"] == "same tokens"
    assert answers["saving"] == answers["placing"] == "bit-identical"
    left, right = (part.split() for part in answers["padding"].split(", "))
    assert (left[0], right[0]) == ("left", "right")
    assert 0 < float(left[1]) < 1e-3
    assert 0 < float(right[1]) < 1e-3
    assert 0.5 < float(answers["half"]) < 1.5
    assert answers["energies"] == "equal"
    assert answers["monitor"] == f"all {len(list(named_sites(snn)))}"


@pytest.fixture
def broken(snn: Any) -> Any:
    """With other logits."""
    found = copy.deepcopy(snn)
    with torch.no_grad():
        found.lm_head.weight[5:60] += 1.0
    return found


def test_other_outputs_are_told(broken: Any, subject: Subject) -> None:
    assert errors_with_padding(broken, subject).startswith("left DIFFERS")


def test_other_tokens_are_told(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = las_sj.convert

    def broken(model: Any, *arguments: Any) -> Any:
        snn = convert(model, *arguments)
        with torch.no_grad():
            snn.lm_head.weight.neg_()
        return snn

    monkeypatch.setattr(las_sj, "convert", broken)
    assert same_tokens(None, subject) == "other tokens, accumulated, with cache"


def test_what_the_ann_cannot_do_is_said(subject: Subject) -> None:
    without = copy.deepcopy(subject.model)
    without.generation_config.num_beams = 0
    answer = same_tokens(None, Subject(without, subject.inputs))
    assert answer.startswith("the ANN has none with cache (")
    assert ", the ANN has none without cache (" in answer


class Forgetful(GPTJForCausalLM):
    """Loses a weight on a named device."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        model = super().from_pretrained(*arguments, **options)
        if options.get("device_map") == {"": "cpu"}:
            with torch.no_grad():
                model.transformer.h[0].ln_1.weight.zero_()
        return model


class NotOnDisk(GPTJForCausalLM):
    """Cannot be loaded to disk."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        if options.get("device_map") == {"": "disk"}:
            raise ValueError("not to disk")
        return super().from_pretrained(*arguments, **options)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Forgetful, "DIFFERS, cpu, accumulated, DIFFERS, cpu, temporal"),
        (NotOnDisk, "nor does the ANN run: disk"),
    ],
    ids=["another weight", "not loaded"],
)
def test_what_a_place_changes_is_told(kind: type, answer: str, snn: Any, subject: Subject) -> None:
    ann = copy.deepcopy(subject.model)
    ann.__class__ = kind
    assert same_bits_anywhere(snn, Subject(ann, subject.inputs)) == answer


def test_images_have_neither_padding_nor_tokens() -> None:
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4)
    model = ViTForImageClassification(config)
    subject = Subject(model, next(inputs_of(model, "image-classification")))
    assert errors_with_padding(model, subject) == "takes no mask"
    assert same_tokens(model, subject) == "does not generate"


def test_constants_of_the_default_type_are_doubles_too() -> None:
    """XGLM holds logits above the least number of their type, which it makes in the default one."""
    model = XGLMForCausalLM(XGLMConfig(vocab_size=64, d_model=16, ffn_dim=16, num_layers=1, attention_heads=2))
    ann, dtype, default = in_double_precision(Subject(model, next(inputs_of(model, "causal-lm"))))
    assert (ann.dtype, dtype, default) == (torch.float64,) * 3
    assert torch.get_default_dtype() == torch.float32


def test_types_that_are_much_used_are_known() -> None:
    entries = much_used_entries()
    assert len(entries) == 64
    assert set(entries) <= set(entries_of(list(MAPPINGS)))
