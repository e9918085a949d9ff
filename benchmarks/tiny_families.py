"""A tiny model with random weights of every family and head, for equivalence tests and the table of families.

Random weights say nothing of quality. They are drawn wide, so that attention is far from uniform.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

Model = Any  # a PreTrainedModel, of whose attributes type checkers know nothing
Batch = dict[str, Any]

VOCABULARY, IMAGE_TOKEN, IMAGE_SIZE, PATCH = 100, 99, 16, 4
_WIDTH: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = {**_WIDTH, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "initializer_range": 0.2}
_GROUPED = {**_TEXT, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_IMAGE = {**_WIDTH, "image_size": IMAGE_SIZE, "patch_size": PATCH, "initializer_range": 0.2}
_SIZES: dict[str, dict[str, Any]] = {
    "Bert": _TEXT,
    "Roberta": {**_TEXT, "pad_token_id": 0},
    "DistilBert": {
        "vocab_size": VOCABULARY,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    },
    "Electra": {**_TEXT, "embedding_size": 16},
    "GPT2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "OPT": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "max_position_embeddings": 64,
        "init_std": 0.2,
        "word_embed_proj_dim": 16,
        "pad_token_id": 0,
    },
    "GPTNeoX": {**_TEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "Llama": _GROUPED,
    "Mistral": {**_GROUPED, "sliding_window": 4},
    "Qwen2": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 8},
    "Gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "Phi3": _GROUPED,
    "ViT": _IMAGE,
    "CLIPVision": _IMAGE,
}
_ENCODER_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
_DECODER_HEADS = ("ForCausalLM", "ForSequenceClassification")
_HEADS: dict[str, tuple[str, ...]] = {
    "Bert": _ENCODER_HEADS,
    "Roberta": _ENCODER_HEADS,
    "DistilBert": _ENCODER_HEADS,
    "Electra": (*_ENCODER_HEADS, "ForPreTraining"),
    "GPT2": ("LMHeadModel", "ForSequenceClassification"),
    "ViT": ("Model", "ForImageClassification"),
    "CLIPVision": ("Model", "ModelWithProjection"),
}


@dataclass(frozen=True)
class TinyModel:
    """One architecture.

    Args:
        architecture: name of its class.
        family: its family's name.
        build: makes the model.
        batch: makes a batch of that many sequences or images, from a seed.
    """

    architecture: str
    family: str
    build: Callable[[], Model]
    batch: Callable[[int, int], Batch]

    @property
    def generates(self) -> bool:
        """Whether it is a language model."""
        return self.architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def _text_batch(rows: int, seed: int, length: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(3, VOCABULARY - 5, (rows, length), generator=generator)}


def _image_batch(rows: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values": torch.randn(rows, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)}


def _llava_batch(rows: int, seed: int) -> Batch:
    """An image of 16 patches in each sequence."""
    batch = _text_batch(rows, seed, 22)
    batch["input_ids"][:, 2:18] = IMAGE_TOKEN
    return batch | {"attention_mask": torch.ones_like(batch["input_ids"])} | _image_batch(rows, seed)


def _qwen2_vl_batch(rows: int, seed: int) -> Batch:
    """Images of 16 or 32 patches, of which four make a token."""
    generator = torch.Generator().manual_seed(seed)
    ids = _text_batch(rows, seed, 16)["input_ids"]
    grid = torch.tensor([[1, 4, 4 if row % 2 else 8] for row in range(rows)])
    for row in range(rows):
        ids[row, 2 : 2 + int(grid[row].prod()) // 4] = IMAGE_TOKEN
    patches = torch.randn(int(grid.prod(-1).sum()), 3 * 2 * PATCH**2, generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": patches,
        "image_grid_thw": grid,
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
    }


def _random(model: Model) -> Model:
    """Biases are zero and gains one in a new model, which hides what is done with them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def _build(family: str, architecture: str) -> Model:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**_SIZES[family])
    return _random(getattr(transformers, architecture)(config))


def llava() -> Model:
    """A CLIP tower, of whose last layer but one a Llama reads."""
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_IMAGE),
        text_config=transformers.LlamaConfig(**_GROUPED),
        image_token_id=IMAGE_TOKEN,
    )
    return _random(transformers.LlavaForConditionalGeneration(config))


def qwen2_vl() -> Model:
    """A vision tower that merges 2 × 2 patches, and rotary positions of three axes."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = transformers.Qwen2VLConfig(
        vision_config={
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 4,
            "hidden_size": 32,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.2,
        },
        text_config={**_GROUPED, "rope_parameters": rope},
        image_token_id=IMAGE_TOKEN,
        video_token_id=98,
        vision_start_token_id=97,
        vision_end_token_id=96,
    )
    return _random(transformers.Qwen2VLForConditionalGeneration(config))


def _tiny(family: str, head: str) -> TinyModel:
    architecture = f"{family}{head}"
    batch = _image_batch if family in ("ViT", "CLIPVision") else _text_batch
    return TinyModel(architecture, family, lambda: _build(family, architecture), batch)


TINY_MODELS = {
    tiny.architecture: tiny
    for tiny in (
        *(_tiny(family, head) for family in _SIZES for head in _HEADS.get(family, _DECODER_HEADS)),
        TinyModel("LlavaForConditionalGeneration", "Llava", llava, _llava_batch),
        TinyModel("Qwen2VLForConditionalGeneration", "Qwen2VL", qwen2_vl, _qwen2_vl_batch),
    )
}


def double(batch: Batch) -> Batch:
    """A batch with its images in fp64."""
    return {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
