"""Networks of rate codes, and a plain simulation that they are held to."""

import copy
import inspect
from typing import Any

import torch
from tiny_models import Model, calibration_batches
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, OPTConfig, OPTForCausalLM, PreTrainedModel

import las_sj
from las_sj.models.rate_coded.network import named_activations

METHODS = ("fas", "qcfs", "srp", "cos")
CACHE = next(  # the argument's name in this version of transformers
    name for name in ("cache", "past_key_values") if name in inspect.signature(GPT2LMHeadModel.forward).parameters
)


def opt() -> Model:
    """An OPT model; its activations see all tokens of a batch in one row."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
    return OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=32, max_position_embeddings=64)).eval()


def convert_rates(ann: PreTrainedModel, **settings: Any) -> Model:
    """A copy of `ann` as a network of rate codes, in its dtype."""
    return las_sj.convert(copy.deepcopy(ann), las_sj.FASConfig(**settings), calibration_batches())


def simulated(ann: PreTrainedModel, snn: PreTrainedModel, steps: int, read_from: int, **batch: Any) -> Tensor:
    """What the network returns, by running the ANN once a step with neurons that keep their state in between.

    Args:
        ann: the model that was converted.
        snn: what it was converted to, whose thresholds are taken.
        steps: of the simulation.
        read_from: the first step whose output is averaged.
        batch: keyword arguments of a call.
    """
    plain = copy.deepcopy(ann).eval()
    for name, activation in named_activations(snn):
        node = copy.deepcopy(activation.node)
        node.is_windowed, node.step_mode = False, "s"
        plain.set_submodule(name, _Stepping(node))
    with torch.no_grad():
        outputs = [plain(**batch)[0] for _ in range(steps)]
    return torch.stack(outputs[read_from:]).mean(0)


class _Stepping(nn.Module):
    """An activation whose every call is a time step."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x) * self.node.scale_at(x)
