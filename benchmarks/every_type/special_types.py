"""What rules by name cannot know of a model type: options that must agree, and models composed of two others."""

from typing import Any

from transformers import (
    CONFIG_MAPPING,
    BertConfig,
    EncoderDecoderConfig,
    GPT2Config,
    PreTrainedConfig,
    SpeechEncoderDecoderConfig,
    VisionEncoderDecoderConfig,
    ViTConfig,
    Wav2Vec2Config,
)

from every_type.sizes import HEAD_WIDTH, HEADS, IMAGE_SIZE, LAYERS, PATCH, VOCABULARY, WIDTH

Options = dict[str, Any]

_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 4}


def _rope_of_axes(*sections: int, **options: float) -> Options:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [*sections], **options}}


_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_ASSISTANT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_kv_shared_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": HEAD_WIDTH,
    "global_head_dim": HEAD_WIDTH,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}
_ZAMBA = {
    "num_hidden_layers": 4,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,  # those of the second kind share weights
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
    "num_key_value_heads": HEADS,
}
_TOKENIZER = {"num_filters": 4, "downsampling_ratios": [2, 4], "depths": [1, 1, 1], "hidden_size": 16, "vae_std": 0.0}
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}


_TILES = {"image_grid_pinpoints": [[32, 64], [64, 32]]}
_SAM = {"output_channels": 16, "mlp_dim": 64, "global_attn_indexes": [1], "downsample_channels": [24, WIDTH]}
_TOKENS_OF_IMAGES = {"base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1}
_GEMMA4_VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HEAD_WIDTH,
    "pooling_kernel_size": 2,
    "patch_size": PATCH,
    "position_embedding_size": 16,
}
_WINDOWS_OF_SOUND = {"window_size": 8, "downsample_rate": 2}


OPTIONS: dict[str, Options] = {
    "falcon": {"new_decoder_architecture": False},
    "mpt": {"d_model": WIDTH, "n_heads": HEADS, "n_layers": LAYERS, "vocab_size": VOCABULARY, "max_seq_len": 64},
    "funnel": {
        "d_model": WIDTH,
        "n_head": HEADS,
        "d_head": HEAD_WIDTH,
        "d_inner": 64,
        "block_sizes": [1, 1],
        "num_decoder_layers": 1,
    },
    "xlnet": {"d_head": HEAD_WIDTH, "d_model": WIDTH, "n_head": HEADS, "d_inner": 64, "n_layer": LAYERS},
    "gpt_neo": {
        "hidden_size": WIDTH,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 64,
        "window_size": 4,
        "intermediate_size": 64,
    },
    "codegen": {"rotary_dim": 4, "n_head": HEADS, "n_embd": WIDTH, "n_layer": LAYERS, "n_positions": 64, "n_ctx": 64},
    "gptj": {"rotary_dim": 4},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "donut-swin": _SWIN,
    "mobilebert": {
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
        "embedding_size": WIDTH,
        "hidden_size": WIDTH,
    },
    "reformer": {
        "attn_layers": ["local", "local"],
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": HEAD_WIDTH,
        "local_attn_chunk_length": 4,
        "num_buckets": 4,
        "hidden_size": WIDTH,
    },
    "longformer": {"attention_window": [4, 4]},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "esm": {
        "position_embedding_type": "rotary",
        "pad_token_id": 1,
        "mask_token_id": 4,
        "token_dropout": False,
        "vocab_size": VOCABULARY,
    },
    "qwen2_vl_text": _rope_of_axes(1, 1, 2),
    "qwen2_5_vl_text": _rope_of_axes(1, 1, 2),
    "qwen2_5_omni_text": _rope_of_axes(1, 1, 2),
    "glm4v_text": _rope_of_axes(1, 1, 2),
    "glm_ocr_text": _rope_of_axes(1, 1, 2),
    "glm4v_moe_text": _rope_of_axes(1, 1, 0, partial_rotary_factor=0.5),
    "hiera": {
        "image_size": [64, 64],
        "patch_size": [7, 7],
        "patch_stride": [4, 4],
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
    },
    "llava_next": _TILES,
    "llava_onevision": _TILES,
    "llava_next_video": _TILES,
    "florence_vision": {
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [16, WIDTH],
        "num_heads": [2, 4],
        "num_groups": [2, 4],
        "window_size": 4,
        "projection_dim": WIDTH,
    },
    "kosmos-2": {"latent_query_num": 8},
    "kosmos-2.5": {"latent_query_num": 8},
    "kosmos_2_text_model": {"layers": LAYERS},
    "kosmos_2_5_text_model": {"layers": LAYERS},
    "janus_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 16},
    "granite4_vision": _TILES
    | {
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[-2, 0]],
        "spatial_target_layers": [0, 1, 0, 1],
        "vision_config": {  # the query transformer has a head for 64 of its width
            "model_type": "clip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
    },
    "granite4_vision_text": {"rope_parameters": _ROPE},
    "hunyuan_vl_text": _rope_of_axes(1, 1, 1, 1),
    "llama4_vision_model": {
        "intermediate_size": 4 * WIDTH,  # of four patches that become one
        "projector_input_dim": WIDTH,
        "projector_output_dim": WIDTH,
    },
    "paddleocr_vl_text": _rope_of_axes(1, 1, 2),
    "step3p5": {
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "share_expert_dim": 64,
        "mlp_layer_types": ["dense", "sparse"],
    },
    "pi0": {"chunk_size": 4, "max_state_dim": 8, "max_action_dim": 8},
    "fast_vlm": {
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "hidden_size": 256,
            "model_args": {
                "inference_mode": True,
                "layers": [1] * 5,
                "embed_dims": [8, 16, 32, 64, 128],
            },
        },
    },
    "perception_lm": {
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_tiny_patch16_384",
            "model_args": {
                "embed_dim": WIDTH,
                "depth": LAYERS,
                "num_heads": HEADS,
                "img_size": [32, 32],
                "patch_size": 4,
            },
        },
    },
    "gemma3n_vision": {"hidden_size": 2048, "model_args": {"channel_multiplier": 0.0625, "msfa_output_resolution": 2}},
    "gemma3n": {"vision_soft_tokens_per_image": 4},
    "gemma3": {"mm_tokens_per_image": 4},
    "t5gemma2": {"mm_tokens_per_image": 4},
    "wav2vec2-bert": {"vocab_size": VOCABULARY},
    "wav2vec2-conformer": {"vocab_size": VOCABULARY},
    "mamba2": {"num_heads": 8, "head_dim": HEAD_WIDTH},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), _ROPE),
    },
    "longcat_flash": {"zero_expert_num": 2},
    "recurrent_gemma": {"num_hidden_layers": 3},  # the last of them attends, without which there is no cache
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "deepseek_v2": {"n_group": 1, "topk_group": 1},
    "esmc": {"num_key_value_heads": HEADS},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "intermediate_size": [64] * 4,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
        "laurel_rank": 8,
    },
    "neomme": {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "embedding_rank": 16},
    "perceiver": {
        "num_latents": 8,
        "d_latents": WIDTH,
        "d_model": WIDTH,
        "num_self_attends_per_block": LAYERS,
        "max_position_embeddings": 64,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_WIDTH,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "hc_lowrank": 8,
        "ple_layer_ids": [1],
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 64,
        "split_ngram_parts": 1,
        "linear_num_value_heads": HEADS,
    },
    "zamba": _ZAMBA | {"mamba_dt_rank": 4},
    "zamba2": _ZAMBA | {"kv_channels": 16, "num_query_groups": HEADS, "n_mamba_heads": HEADS, "mamba_headdim": 16},
    "vibevoice_acoustic_tokenizer": _TOKENIZER,
    "vibevoice_acoustic_tokenizer_encoder": _TOKENIZER,
    "vibevoice_asr": {"acoustic_tokenizer_chunk_size": 64},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "levit": {
        "image_size": 64,
        "patch_size": 16,
        "hidden_sizes": [16, 32, 48],
        "num_attention_heads": [2, 4, 6],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "bit": _STAGES | {"num_groups": 4},
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "resnet": _STAGES | {"embedding_size": 8},
    "regnet": _STAGES | {"embedding_size": 8, "groups_width": 8},
    "focalnet": {"embed_dim": 8, "depths": [1, 1, 1, 1], "image_size": 32},
    "segformer": {"depths": [1] * 4, "hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 32},
    "pvt": {"depths": [1] * 4, "hidden_sizes": [8, 16, 40, 64], "image_size": 64},
    "pvt_v2": {"depths": [1] * 4, "hidden_sizes": [8, 16, 40, 64], "image_size": 64},
    "poolformer": {"depths": [1] * 4, "hidden_sizes": [8, 16, 24, 32]},
    "swiftformer": {"depths": [1] * 4, "embed_dims": [8, 16, 24, 32]},
    "cvt": {"depth": [1, 2, 3], "embed_dim": [8, 24, 48]},
    "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "image_size": 64},
    "mobilevitv2": {"width_multiplier": 0.125, "image_size": 64},
    "mobilenet_v1": {"depth_multiplier": 0.125, "min_depth": 8},
    "mobilenet_v2": {"depth_multiplier": 0.125, "min_depth": 8},
    "aria": {"projector_patch_to_query_dict": {64: 8}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "n_group": 1, "topk_group": 1},
    "deepseek_ocr2_sam_vision_model": _SAM,
    "unlimited_ocr_sam_vision_model": _SAM,
    "sam_vision_model": {"image_size": 64, "output_channels": 16, "global_attn_indexes": [1], "mlp_dim": 64},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": WIDTH},
    "dots3_note_text": {
        "shared_experts_intermediate_size": WIDTH,
        "mlp_layer_types": ["dense", "sparse"],
        "layer_types": ["indexed_attention", "sliding_attention"],
        "per_layer_config": {
            1: {
                "num_attention_heads": HEADS,
                "num_key_value_heads": HEADS,
                "q_lora_rank": 16,
                "kv_lora_rank": 16,
                "head_dim": 16,
                "qk_nope_head_dim": 8,
                "qk_rope_head_dim": 8,
                "v_head_dim": 8,
            },
        },
    },
    "glm5_next_text": {"hc_sinkhorn_iters": 3},
    "dots3_note_vision_encoder": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
    "dots3_note_audio_encoder": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH, "downsample_hidden_size": 16},
    "ernie4_5_vl_moe_text": _rope_of_axes(1, 1, 2),
    "mistral4": {"head_dim": 16, "qk_head_dim": 16},
    "chameleon": {"vocabulary_map": {"<image>": 120} | {f"IMGIMG{chr(65 + n)}Z": 64 + n for n in range(8)}},
    "chameleon_vqgan": _TOKENS_OF_IMAGES | {"num_embeddings": 8, "resolution": IMAGE_SIZE},
    "emu3": {
        "vocabulary_map": {"<image>": 120, "<|extra_200|>": 119}
        | {f"<|visual token {n:06}|>": 64 + n for n in range(8)}
    },
    "emu3_vqgan": _TOKENS_OF_IMAGES | {"codebook_size": 8, "hidden_size": 32, "embed_dim": 4, "latent_channels": 4},
    "apertus1p5": {
        "image_token_id": 120,
        "audio_token_id": 121,
        "image_token_offset": 64,
        "audio_token_offset": 72,
    },
    "apertus1p5_vision_tokenizer": _TOKENS_OF_IMAGES | {"codebook_size": 8, "resolution": IMAGE_SIZE},
    "gemma4": {"vision_config": _GEMMA4_VISION},
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "t5gemma2_encoder": {"mm_tokens_per_image": 4},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 100, "vision_end_token_id": 101},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 100, "vision_end_token_id": 101},
    "voxtral": {"audio_token_id": 120},
    "granite_speech": _WINDOWS_OF_SOUND,
    "granite_speech_plus": _WINDOWS_OF_SOUND,
    "moonshine_streaming": {"num_key_value_heads": HEADS},
    "fun_asr_nano_adaptor": {"intermediate_size": WIDTH // 4},
    "mimi": {"upsample_groups": WIDTH, "num_filters": 4, "codebook_size": 16, "codebook_dim": 16},
    "mllama_vision_model": {"intermediate_layers_indices": [0, 1], "vision_output_dim": 3 * WIDTH},
    "kimi_k25": {"projection_hidden_size": WIDTH},
    "kimi_k25_vision": {"projection_hidden_size": WIDTH},
    "molmo2_adapter": {"vision_feature_layer": [-1, -2]},
    "gemma4_unified": {
        "vision_config": {
            "model_type": "gemma4_unified_vision",
            "patch_size": PATCH,
            "pooling_kernel_size": 2,
            "mm_embed_dim": WIDTH,
            "mm_posemb_size": 16,
            "output_proj_dims": WIDTH,
        }
    },
    "shieldgemma2": {"mm_tokens_per_image": 4, "yes_token_index": 5, "no_token_index": 6},
    "dia_decoder": {"cross_hidden_size": WIDTH, "cross_num_attention_heads": HEADS, "cross_head_dim": HEAD_WIDTH},
    "radio": {"video_temporal_patch_size": 2},
    "muse_glimmer": {"out_hidden_size": 4 * WIDTH},
    "muse_spark": {"out_hidden_size": 4 * WIDTH},
    "granite_speech5_encoder": {"context_size": 4, "max_position_embeddings": 64},
    "nemotron_h_omni": {"image_token_id": 120, "video_token_id": 121, "audio_token_id": 122},
    "molmo2_vision": {"image_size": 16, "patch_size": PATCH},
    "molmo2_text": {"additional_vocab_size": 0},
    "blip-2": {"image_token_index": 120},
    "instructblip": {"image_token_index": 120},
    "instructblipvideo": {"video_token_index": 120},
    "led": {"attention_window": [4, 4], "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64},
}


_GIVEN: dict[str, Options] = {  # whole: the default configurations of these cannot be made
    "gemma4_assistant": {"text_config": _ASSISTANT | {"model_type": "gemma4_text"}, "backbone_hidden_size": WIDTH},
    "gemma4_unified_assistant": {
        "text_config": _ASSISTANT | {"model_type": "gemma4_unified_text"},
        "backbone_hidden_size": WIDTH,
    },
}


def composed(model_type: str) -> PreTrainedConfig | None:
    """The tiny configuration of a model type that consists of any two others, with those that were chosen here."""
    text = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 64}
    decoder = GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=64, vocab_size=VOCABULARY)
    if model_type in _GIVEN:
        return CONFIG_MAPPING[model_type](**_GIVEN[model_type])
    if model_type == "encoder-decoder":
        encoder = BertConfig(**text, vocab_size=VOCABULARY)
        attends = BertConfig(**text, vocab_size=VOCABULARY, is_decoder=True, add_cross_attention=True)
        config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, attends)
    elif model_type == "vision-encoder-decoder":
        vision = ViTConfig(**text, image_size=IMAGE_SIZE, patch_size=PATCH)
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, decoder)
    elif model_type == "speech-encoder-decoder":
        speech = Wav2Vec2Config(
            **text,
            conv_dim=(16, 16),
            conv_kernel=(8, 4),
            conv_stride=(8, 4),
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        )
        config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(speech, decoder)
    else:
        return None
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return config
