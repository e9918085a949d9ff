"""Llama. Rotary position embeddings are linear in q and k and act on each time step by itself."""

from las_sj.models.registry import Family, register_family

LLAMA = register_family(
    Family(
        model_types=("llama",),
        attention={"LlamaAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("qa_outputs",),
    )
)
