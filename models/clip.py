"""CLIP's vision tower."""

from las_sj.models.registry import Family, register_family

CLIP_VISION = register_family(
    Family(
        model_types=("clip_vision_model",),
        attention={"CLIPAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("visual_projection",),
        constants={"CLIPVisionEmbeddings": ("class_embedding",)},
    )
)
