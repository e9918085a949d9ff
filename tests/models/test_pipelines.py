"""Converted models in transformers' pipelines, beside their ANNs."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import TINY_MODELS, Model
from tiny_models import EXECUTIONS
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ViTImageProcessor, pipeline

import las_sj
from las_sj.checkpoint.loading import default_model

SENTENCES = ["The king is dead.", "Long live the king, and all his horses!"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """The default model's, its tokens cut to the vocabulary of the tiny models."""
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def pair(architecture: str, vocabulary: int | None = None) -> tuple[Model, Model]:
    tiny = TINY_MODELS[architecture]
    ann = tiny.build()
    if vocabulary is not None:
        ann.resize_token_embeddings(vocabulary, mean_resizing=False)
    return ann, las_sj.convert(copy.deepcopy(ann), None, [tiny.batch(4, 1)])


@pytest.mark.parametrize("execution", EXECUTIONS)
class TestPipelines:
    def test_text_generation(self, execution: str, tokenizer: PreTrainedTokenizerBase) -> None:
        ann, snn = pair("LlamaForCausalLM", len(tokenizer))
        las_sj.set_execution(snn, execution)
        options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "batch_size": 2}
        expected, found = (
            pipeline("text-generation", model=model, tokenizer=tokenizer)(SENTENCES, **options) for model in (ann, snn)
        )
        assert found == expected

    def test_text_classification(self, execution: str, tokenizer: PreTrainedTokenizerBase) -> None:
        ann, snn = pair("BertForSequenceClassification", len(tokenizer))
        las_sj.set_execution(snn, execution)
        expected, found = (
            pipeline("text-classification", model=model, tokenizer=tokenizer)(SENTENCES, batch_size=2)
            for model in (ann, snn)
        )
        for one, other in zip(found, expected, strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)

    def test_image_classification(self, execution: str) -> None:
        ann, snn = pair("ViTForImageClassification")
        las_sj.set_execution(snn, execution)
        pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        processor = ViTImageProcessor(size={"height": 16, "width": 16})
        expected, found = (
            pipeline("image-classification", model=model, image_processor=processor)(Image.fromarray(pixels))
            for model in (ann, snn)
        )
        for one, other in zip(found, expected, strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def test_embeddings_resized_after_conversion_are_refused() -> None:
    """transformers then makes a new, dense output layer."""
    _, snn = pair("LlamaForCausalLM")
    snn.resize_token_embeddings(120, mean_resizing=False)
    with pytest.raises(RuntimeError, match=r"(lm_head|embed_tokens) was replaced after conversion"):
        snn(torch.ones(1, 3, dtype=torch.long))
