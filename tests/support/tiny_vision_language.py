"""Small vision-language models with random weights, and their processors, for real photographs."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tiny_families import Model

from las_sj.checkpoint.loading import default_model

IMAGES = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "cifar10_subset.npz"
SIZES: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}


@cache
def photographs() -> np.ndarray[Any, Any]:
    """32 × 32 pixels in colour, of all ten classes."""
    with np.load(IMAGES) as data:
        return np.asarray(data["x_test"][::50])


def tokenizer_with(*tokens: str) -> Any:
    """The default model's, with tokens that stand for images."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(default_model())
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def processor_of(kind: str) -> Any:
    if kind == "llava":
        return transformers.LlavaProcessor(
            image_processor=transformers.CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            ),
            tokenizer=tokenizer_with("<image>"),
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )
    tokenizer = tokenizer_with("<|image_pad|>", "<|video_pad|>")
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    return transformers.Qwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(patch_size=8, merge_size=2, size=pixels),
        video_processor=transformers.Qwen2VLVideoProcessor(patch_size=8, merge_size=2, size=pixels),
        tokenizer=tokenizer,
    )


def build(kind: str) -> Model:
    torch.manual_seed(0)
    tokenizer = processor_of(kind).tokenizer
    text = {**SIZES, "hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    text["max_position_embeddings"] = 256
    if kind == "llava":
        config: Any = transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(
                **SIZES, hidden_size=32, intermediate_size=64, image_size=32, patch_size=8
            ),
            text_config=transformers.LlamaConfig(**text),
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
        return transformers.LlavaForConditionalGeneration(config).eval()
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = transformers.Qwen2VLConfig(
        vision_config={"embed_dim": 32, "depth": 2, "num_heads": 4, "hidden_size": 32, "patch_size": 8, "mlp_ratio": 2},
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return transformers.Qwen2VLForConditionalGeneration(config).eval()
