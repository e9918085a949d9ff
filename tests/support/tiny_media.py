"""Small models of images and of sound with random weights, their processors, and pictures and sounds for them."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tiny_vision_language import build, processor_of

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
CLASSES = ("bird", "cat", "dog")
RATES = (8000, 16000, 44100, 22050, 16000)


def vit(**options: Any) -> Any:
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    config = transformers.ViTConfig(**SIZES, image_size=32, patch_size=8, initializer_range=0.2, **labels, **options)
    return transformers.ViTForImageClassification(config).eval()


def save_vit(folder: Path) -> Path:
    """A ViT for three classes with its image processor."""
    vit().save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_vision_language(kind: str, folder: Path) -> Path:
    """A LLaVA or a Qwen2-VL with its processor."""
    build(kind).save_pretrained(folder)
    processor_of(kind).save_pretrained(folder)
    return folder


def save_pictures(folder: Path, each: int = 2) -> Path:
    """Pictures of several sizes and kinds, in a folder for each class."""
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(256, size=(4 + number, 5, 3), dtype=np.uint8)
            ending = ("png", "jpg")[number % 2]
            Image.fromarray(pixels).resize((40 + 8 * number, 40)).save(folder / name / f"{number}.{ending}")
    return folder


def tone(rate: int, pitch: float, seconds: float = 0.5) -> np.ndarray[Any, Any]:
    """A tone, [samples], within ±1."""
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)


def write_wav(file: Path, samples: np.ndarray[Any, Any], rate: int, channels: int = 1) -> Path:
    """16-bit samples, [N] or [N, channels]."""
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((samples * 32767).astype("<i2").tobytes())
    return file


def save_sounds(folder: Path) -> Path:
    """Rising tones at several rates."""
    folder.mkdir(parents=True)
    for number, rate in enumerate(RATES):
        time = np.arange(rate // 2) / rate
        write_wav(folder / f"{number}.wav", tone(rate, 200 + 80 * number) * (1 - time), rate)
    return folder


def write_pairs(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def widened(model: Any) -> Any:
    """Weights drawn wide, so that nothing is nearly linear."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save_ctc(folder: Path) -> Path:
    """A wav2vec 2.0 that predicts tokens of frames, with its feature extractor."""
    convolutions = {"conv_dim": (8, 8), "conv_stride": (10, 8), "conv_kernel": (16, 8), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    config = transformers.Wav2Vec2Config(vocab_size=12, **SIZES, **convolutions, **positions)
    widened(transformers.Wav2Vec2ForCTC(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
