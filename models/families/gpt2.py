"""GPT-2. Its c_attn projects queries, keys and values at once, so it codes its own input."""

from transformers import PretrainedConfig

from las_sj.models.registry import Family, register_family


def _unsupported(config: PretrainedConfig) -> str | None:
    if config.add_cross_attention:
        return "add_cross_attention"
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        return "scale_attn_by_inverse_layer_idx or scale_attn_weights=False"
    return None


GPT2 = register_family(
    Family(
        model_types=("gpt2",),
        attention={"GPT2Attention": ()},
        readouts=("classifier", "qa_outputs"),
        activated={"GPT2MLP": ("act", "c_proj")},
        unsupported=_unsupported,
    )
)
