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

from las_sj.checkpoint.loading import default_model

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


def save_tokenizer(folder: Path) -> Any:
    """The default model's tokenizer, saved; its last token ends texts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(default_model())
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_whisper(folder: Path) -> Path:
    """A Whisper that hears half a second, with its feature extractor and a tokenizer."""
    tokenizer = save_tokenizer(folder)
    sizes = {f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8}
    end = dict.fromkeys(("eos_token_id", "pad_token_id", "bos_token_id"), tokenizer.eos_token_id)
    end |= {"decoder_start_token_id": 5, "suppress_tokens": None, "begin_suppress_tokens": None}
    places = {"max_source_positions": 50, "max_target_positions": 32}
    config = transformers.WhisperConfig(vocab_size=len(tokenizer), **sizes, **widths, **places, **end)
    widened(transformers.WhisperForConditionalGeneration(config)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def save_t5(folder: Path) -> Path:
    tokenizer = save_tokenizer(folder)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": 0}
    config = transformers.T5Config(vocab_size=len(tokenizer), **sizes, **ends)
    widened(transformers.T5ForConditionalGeneration(config)).save_pretrained(folder)
    return folder
