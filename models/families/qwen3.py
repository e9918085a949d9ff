"""Qwen3. Queries and keys pass a norm of each head, which is a norm like the others."""

from las_sj.models.registry import Family, register_family

QWEN3 = register_family(
    Family(
        model_types=("qwen3",),
        attention={"Qwen3Attention": ("q_proj", "k_proj", "v_proj")},
        readouts=("qa_outputs",),
    )
)
