"""BERT."""

from transformers import PretrainedConfig

from las_sj.models.registry import Family, register_family


def _unsupported(config: PretrainedConfig) -> str | None:
    if config.is_decoder or config.add_cross_attention:
        return "is_decoder or add_cross_attention"
    return None


BERT = register_family(
    Family(
        model_types=("bert",),
        attention={"BertSelfAttention": ("query", "key", "value")},
        readouts=("classifier", "qa_outputs", "cls.seq_relationship"),
        unsupported=_unsupported,
    )
)
