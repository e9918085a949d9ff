"""Qwen2."""

from las_sj.models.registry import Family, register_family

QWEN2 = register_family(
    Family(
        model_types=("qwen2",),
        attention={"Qwen2Attention": ("q_proj", "k_proj", "v_proj")},
        readouts=("qa_outputs",),
    )
)
