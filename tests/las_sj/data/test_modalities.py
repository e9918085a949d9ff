"""What models take, by their classes, and how processors are asked for it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_vision_language import processor_of

from las_sj.data.modalities import Modalities, ModalityError, modalities_of
from las_sj.data.noise import SECONDS, noise_examples, noise_image
from las_sj.data.processed import accepted, prompt
from las_sj.data.processors import Processors

TAKES = {
    "BertForMaskedLM": Modalities(text=True),
    "GPT2LMHeadModel": Modalities(text=True),
    "T5ForConditionalGeneration": Modalities(text=True, decoder=True),
    "BartModel": Modalities(text=True, decoder=True),
    "ViTForImageClassification": Modalities(images=True),
    "ResNetForImageClassification": Modalities(images=True),
    "VisionEncoderDecoderModel": Modalities(images=True, decoder=True),
    "CLIPVisionModel": Modalities(images=True),
    "CLIPModel": Modalities(text=True, images=True),
    "LlavaForConditionalGeneration": Modalities(text=True, images=True),
    "Qwen2VLForConditionalGeneration": Modalities(text=True, images=True),
    "WhisperForConditionalGeneration": Modalities(sound=True, decoder=True),
    "WhisperForAudioClassification": Modalities(sound=True),
    "Wav2Vec2ForCTC": Modalities(sound=True),
    "ASTForAudioClassification": Modalities(sound=True),
    "Qwen2AudioForConditionalGeneration": Modalities(text=True, sound=True),
}


@pytest.mark.parametrize("name", list(TAKES))
def test_what_models_take(name: str) -> None:
    assert modalities_of(getattr(transformers, name)) == TAKES[name]


def test_what_none_is_there_for() -> None:
    with pytest.raises(ModalityError, match=r"VideoMAEModel takes video, which .* none of: convert it in Python"):
        modalities_of(transformers.VideoMAEModel)


@pytest.mark.parametrize(
    ("takes", "option"),
    [
        (Modalities(text=True), "--calibration FILE"),
        (Modalities(images=True), "--images DIR"),
        (Modalities(sound=True, decoder=True), "--audio DIR"),
        (Modalities(text=True, images=True), "--pairs FILE or --images DIR"),
    ],
)
def test_which_option_gives_it(takes: Modalities, option: str) -> None:
    assert takes.option == option


def test_places_of_images_in_texts() -> None:
    plain, processor = SimpleNamespace(image_token="<image>"), processor_of("llava")
    assert prompt(plain, "What?", "image") == "<image>\nWhat?"
    assert prompt(plain, "<image> What?", "image") == "<image> What?"
    assert prompt(SimpleNamespace(), "What?", "image") == "What?"
    processor.chat_template = (
        "{% for m in messages %}{% for c in m.content %}{{ '<image>' if c.type == 'image' else c.text }}"
        "{% endfor %}{% endfor %}{{ ' Answer:' if add_generation_prompt }}"
    )
    assert prompt(processor, "What?", "image") == "<image>What? Answer:"


def test_only_what_a_model_takes() -> None:
    class Encoder(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    tokens = torch.ones(1, 2, dtype=torch.long)
    assert [*accepted(Encoder, {"input_ids": tokens, "token_type_ids": tokens}, torch.float32)] == ["input_ids"]
    pixels = {"pixel_values": torch.ones(1, 3, 4, 4, dtype=torch.float64)}
    (values,) = accepted(transformers.ViTModel, pixels, torch.bfloat16).values()
    assert values.dtype == torch.bfloat16


@pytest.mark.parametrize("takes", [Modalities(images=True), Modalities(sound=True), Modalities(text=True, images=True)])
def test_noise_is_the_same_in_every_run(takes: Modalities) -> None:
    processors = Processors(pairs=processor_of("llava"))
    first, second, other = (noise_examples(takes, processors, 4, seed) for seed in (0, 0, 1))

    def content(examples: Any) -> list[Any]:
        return [(it.image.tobytes() if it.image else it.sound.samples.tobytes(), it.text) for it in examples]

    assert content(first) == content(second) != content(other)
    for example in first:
        assert (example.image is None) != takes.images
        assert (example.sound is None) == takes.images
        assert (example.text is None) != takes.text
        if example.sound is not None:
            assert example.sound.samples.shape == (SECONDS * processors.rate,)
            assert 0.5 < np.abs(example.sound.samples).max() <= 1


def test_noise_keeps_its_range_when_it_shrinks() -> None:
    for number in range(2):
        small = np.asarray(noise_image(np.random.default_rng(0), number).resize((32, 32)))
        assert small.std() > 50  # of 256; fine noise would come out grey
