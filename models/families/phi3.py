"""Phi-3. One layer projects queries, keys and values at once, and one makes both gate and up."""

from torch import Tensor, nn

from las_sj.models.layers.gated_mlp import GatedProduct
from las_sj.models.registry import Family, register_family


class FusedGatedMLP(GatedProduct):
    """A gated block whose first layer returns gate and up side by side, and codes its own input; [T·B, S, C] both."""

    activation = "activation_fn"
    gate_up_proj: nn.Module
    activation_fn: nn.Module
    down_proj: nn.Module

    def forward(self, hidden_states: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(hidden_states).chunk(2, dim=-1)
        return self.down_proj(self.product(self.activation_fn, gate, up))  # type: ignore[no-any-return]


PHI3 = register_family(
    Family(
        model_types=("phi3",),
        attention={"Phi3Attention": ()},
        layers={"Phi3MLP": FusedGatedMLP},
    )
)
