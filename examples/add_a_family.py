"""Give a model of a type that las_sj does not know the layers of a family, from outside of the package.

python examples/add_a_family.py
"""

import copy

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import las_sj
from las_sj.analysis import audit
from las_sj.models import Family, register_family


class ParrotConfig(LlamaConfig):  # stands for a configuration of your own
    model_type = "parrot"


class ParrotForCausalLM(LlamaForCausalLM):
    config_class = ParrotConfig


# hidden_states of LlamaAttention go to three layers; all else is converted by the types of modules
PARROT = Family(model_types=("parrot",), attention={"LlamaAttention": ("q_proj", "k_proj", "v_proj")})


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    config = ParrotConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    )
    model = ParrotForCausalLM(config).eval()
    batches = [{"input_ids": torch.randint(256, (4, 32))} for _ in range(4)]
    by_operations = las_sj.convert(copy.deepcopy(model), calibration=batches)
    print(f"before: {sum(by_operations.las_coverage.spiking.values())} operations became spiking")

    register_family(PARROT)
    expected = model(**batches[0]).logits
    snn = las_sj.convert(model, calibration=batches)  # a StructureError if the network were not the ANN
    coverage = snn.las_coverage
    print(f"after: {sum(coverage.spiking.values())} modules became spiking, {len(coverage.analog)} stayed analog")
    difference = (snn(**batches[0]).logits - expected).norm() / expected.norm()
    print(f"relative error: {difference:.1e}")
    print(f"fully spike-driven: {audit(snn, batches[0]).fully_spike_driven}")


if __name__ == "__main__":
    main()
