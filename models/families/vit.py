"""ViT. Its class token and positions are parameters that modelling code adds."""

from las_sj.models.registry import Family, register_family

VIT = register_family(
    Family(
        model_types=("vit",),
        attention={"ViTAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("classifier",),
        activated={"ViTMLP": ("activation_fn", "fc2")},
        constants={"ViTEmbeddings": ("cls_token", "mask_token", "position_embeddings")},
    )
)
