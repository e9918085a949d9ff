"""Gemma 2. Its norms multiply by 1 + γ, and both scores and logits are soft-capped by tanh."""

from torch import Tensor

from las_sj.models.layers.norm import SpikingRMSNorm
from las_sj.models.layers.softcap import SoftcappedReadout
from las_sj.models.registry import Family, register_family
from las_sj.neurons.precision import single


class OneCentredRMSNorm(SpikingRMSNorm):
    """RMSNorm with gains 1 + γ, [T·B, ..., C] to [T·B, ..., C]."""

    @property
    def gains(self) -> Tensor:
        """1 + γ, [C]."""
        return 1.0 + single(self.weight)


GEMMA2 = register_family(
    Family(
        model_types=("gemma2",),
        attention={"Gemma2Attention": ("q_proj", "k_proj", "v_proj")},
        layers={"Gemma2RMSNorm": OneCentredRMSNorm},
        named_layers={"lm_head": SoftcappedReadout},
    )
)
