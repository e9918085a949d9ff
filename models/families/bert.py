"""BERT."""

from transformers import PretrainedConfig

from las_sj.models.registry import Family, register_family


def refuse_decoder(config: PretrainedConfig) -> str | None:
    """Names the options that make an encoder a decoder."""
    if config.is_decoder or config.add_cross_attention:
        return "is_decoder or add_cross_attention"
    return None


BERT = register_family(
    Family(
        model_types=("bert",),
        attention={"BertSelfAttention": ("query", "key", "value")},
        readouts=("classifier", "qa_outputs", "cls.seq_relationship"),
        activated={"BertLayer": ("intermediate.intermediate_act_fn", "output.dense")},
        unsupported=refuse_decoder,
    )
)
