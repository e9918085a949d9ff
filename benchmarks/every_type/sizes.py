"""Sizes that make a default configuration tiny, by the names of its options."""

import re

VOCABULARY = 128
IMAGE_SIZE, PATCH = 32, 4
WIDTH, HEADS, HEAD_WIDTH, LAYERS = 32, 4, 8, 2

# One size for each name; an option is never made larger.
_NAMES = {
    4: "patch_size patch_stride sliding_window attention_window_size local_attention window_size attention_window "
    "time_step_rank mamba_dt_rank num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts "
    "ffn_num_experts n_head n_heads num_heads heads num_attention_heads num_query_heads nhead",
    0: "num_nextn_predict_layers mtp_num_hidden_layers mtp_num_layers",
    1: "n_group topk_group moe_n_group num_expert_groups n_groups_moe n_shared_experts moe_num_shared_experts "
    "num_shared_experts num_shared_expert first_k_dense_replace num_dense_layers moe_layer_start_index "
    "mamba_n_groups mamba_ngroups n_groups num_expert_group",
    2: "num_experts_per_tok moe_topk moe_k top_k_experts experts_per_token num_selected_experts moe_top_k topk "
    "num_key_value_heads num_kv_heads n_head_kv multi_query_group_num num_query_groups swa_num_key_value_heads "
    "num_key_value_groups linear_num_key_heads linear_num_value_heads n_kv_heads num_hidden_layers num_layers n_layer "
    "n_layers encoder_layers decoder_layers depth num_encoder_layers num_decoder_layers num_blocks vision_layers "
    "text_layers num_local_layers encoder_num_hidden_layers decoder_num_hidden_layers num_global_layers "
    "num_conv_layers num_codebooks_layers depth_num_hidden_layers num_experts_per_token num_conv_pos_embedding_groups",
    8: "qk_nope_head_dim qk_rope_head_dim v_head_dim head_dim global_head_dim d_kv kv_channels attention_head_dim "
    "linear_key_head_dim linear_value_head_dim key_head_dim value_head_dim index_head_dim swa_head_dim swa_v_head_dim "
    "attention_head_size indexer_head_dim mamba_head_dim mamba_d_head ssm_head_dim compress_head_dim mamba_n_heads "
    "mamba_num_heads linear_num_heads state_size ssm_state_size mamba_d_state ssm_state chunk_size mamba_chunk_size "
    "num_query_tokens num_queries num_latents latent_query_num num_conv_pos_embeddings context_size",
    16: "qk_head_dim q_lora_rank kv_lora_rank o_lora_rank lora_rank num_mel_bins mel_bins n_mels feature_size num_mels",
    32: "image_size crop_size input_size img_size hidden_size d_model n_embd dim embed_dim embedding_size hidden_dim "
    "n_embed word_embed_proj_dim "
    "projection_dim encoder_hidden_size decoder_hidden_size text_hidden_size vision_hidden_size mm_hidden_size "
    "out_hidden_size emb_dim model_dim hidden_size_per_layer_input vision_output_dim attention_hidden_size "
    "text_config_hidden cross_attention_hidden_size output_hidden_size output_dim encoder_dim decoder_dim "
    "image_embed_dim rnn_hidden input_embedding_size encoder_embed_dim decoder_embed_dim out_dim dense_hidden "
    "text_dim vision_dim audio_hidden_size connector_hidden_size projector_hidden_size visual_hidden embedding_dim "
    "hidden_size_global d_latents",
    64: "intermediate_size ffn_dim d_ff n_inner encoder_ffn_dim decoder_ffn_dim moe_intermediate_size ffn_hidden_size "
    "shared_expert_intermediate_size mlp_hidden_size dense_intermediate_size d_inner linear_attn_intermediate "
    "shared_intermediate_size intermediate_size_mlp expert_ffn_hidden_size moe_ffn_hidden_size lru_width "
    "dim_feedforward mlp_dim decoder_intermediate_size encoder_intermediate_size dim_ff "
    "moe_shared_expert_intermediate_size block_ff_dim conformer_ffn_dim max_position_embeddings n_positions "
    "max_seq_len n_ctx max_source_positions max_target_positions max_sequence_length seq_length max_position "
    "num_position_embeddings",
    VOCABULARY: "vocabulary_size n_vocab vocab_size_per_layer_input",
}
_SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
_ENDINGS = ((re.compile("_heads$"), HEADS), (re.compile("vocab_size$"), VOCABULARY))


def small(name: str, value: int) -> int | None:
    """The size of an option in a tiny model, or None where its own is to stay.

    Args:
        name: of the option.
        value: that the default configuration has.
    """
    size = _SIZES.get(name)
    if size is None:
        size = next((size for ending, size in _ENDINGS if ending.search(name)), None)
    return size if size is not None and value > size else None
