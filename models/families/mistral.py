"""Mistral. A sliding window is a mask, and masks are added to scores."""

from las_sj.models.registry import Family, register_family

MISTRAL = register_family(
    Family(
        model_types=("mistral",),
        attention={"MistralAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("qa_outputs",),
    )
)
