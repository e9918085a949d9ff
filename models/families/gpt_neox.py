"""GPT-NeoX (Pythia). One layer projects queries, keys and values at once, so it codes its own input."""

from las_sj.models.registry import Family, register_family

GPT_NEOX = register_family(
    Family(
        model_types=("gpt_neox",),
        attention={"GPTNeoXAttention": ()},
        readouts=("classifier", "qa_outputs"),
        activated={"GPTNeoXMLP": ("act", "dense_4h_to_h")},
    )
)
