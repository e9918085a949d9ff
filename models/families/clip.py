"""CLIP's vision tower."""

from typing import Any

from torch import Tensor

from las_sj.models.layers.constants import ConstantCurrents
from las_sj.models.registry import Family, register_family


class VisionEmbeddings(ConstantCurrents):
    """Patches, a class token and positions: pixels [T·B, 3, height, width] to [T·B, S, C].

    For images of other sizes, positions come from the embedding's weight.
    """

    def interpolate_pos_encoding(self, *args: Any) -> Tensor:
        """Interpolated positions as a constant current."""
        return self.per_step(super().interpolate_pos_encoding(*args))  # type: ignore[misc]


CLIP_VISION = register_family(
    Family(
        model_types=("clip_vision_model",),
        attention={"CLIPAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("visual_projection",),
        activated={"CLIPMLP": ("activation_fn", "fc2")},
        layers={"CLIPVisionEmbeddings": VisionEmbeddings},
        constants={"CLIPVisionEmbeddings": ("class_embedding",)},
    )
)
