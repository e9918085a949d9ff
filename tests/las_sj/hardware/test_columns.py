"""Which neurons are the columns of a layer: by their values, whatever the order of heads and halves."""

import pytest
import torch
from tiny_models import convert_tiny, gpt2, llama, token_ids
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    MixtralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
)

from las_sj.analysis import audit
from las_sj.hardware.columns import columns_of
from las_sj.hardware.deployment import Deployment, deploy
from las_sj.hardware.report import HardwareReport

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def made(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return convert_tiny(AutoModelForCausalLM.from_config(config).eval(), time_steps=4)


def batch(length: int = 8) -> dict[str, torch.Tensor]:
    return {"input_ids": token_ids(1, length)}


def columns(model: PreTrainedModel, length: int = 8) -> dict[str, tuple[int, ...]]:
    """Of the populations that one layer drives, by the last two parts of their names."""
    alone = {name: next(iter(found)) for name, found in audit(model, batch()).drivers.items() if len(found) == 1}
    found = columns_of(model, batch(length), alone)
    return {".".join(name.split(".")[-2:]): each for name, each in found.items() if ".0." in name or "h.0" in name}


def test_thirds_of_a_layer() -> None:
    found = columns(convert_tiny(gpt2(), time_steps=4))
    size = len(found["las_attention.query_node"])
    for number, name in enumerate(("query", "key", "value")):
        assert found[f"las_attention.{name}_node"] == tuple(range(number * size, (number + 1) * size))
    assert found["act.node"] == tuple(range(len(found["act.node"])))


def test_rotary_positions_add_two_columns() -> None:
    """So that queries and keys are none; values and the halves of a gated layer are."""
    found = columns(convert_tiny(llama(), time_steps=4))
    assert not {"las_attention.query_node", "las_attention.key_node"} & {*found}
    for name in ("las_attention.value_node", "mlp.up_node", "act_fn.node"):
        assert found[name] == tuple(range(len(found[name])))


def test_a_gate_comes_first_in_its_layer() -> None:
    found = columns(made(Phi3Config(**SIZES)))
    assert found["activation_fn.node"] == tuple(range(48))
    assert found["mlp.up_node"] == tuple(range(48, 96))


def test_heads_whose_queries_keys_and_values_alternate() -> None:
    found = columns(made(GPTNeoXConfig(**SIZES)))
    heads = [range(24 * head + 16, 24 * head + 24) for head in range(4)]
    assert found["las_attention.value_node"] == tuple(column for head in heads for column in head)


def test_too_few_rows_to_tell() -> None:
    assert columns(convert_tiny(gpt2(), time_steps=4), length=3) == {}


@pytest.fixture(scope="module")
def mixture() -> Deployment:
    config = MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1)
    return deploy(made(config), [batch()], "loihi2")


def test_experts_whose_weights_nobody_counts_are_named(mixture: Deployment) -> None:
    assert any("experts" in name for name in mixture.unknown)
    rows = dict(HardwareReport("tiny", "a sample", mixture).summary_rows())
    assert all(name in rows["weights of unknown size"] for name in mixture.unknown)
    assert mixture.steps.events > 0


def test_a_query_fires_at_the_scores_of_its_head() -> None:
    """At one core, where each head has its own: as many messages as spikes."""
    model = convert_tiny(gpt2(), time_steps=4)
    found = deploy(model, [batch()], "loihi")
    populations = {each.name: each for each in found.placement.populations}
    name = "transformer.h.0.attn.las_attention.query_node"
    heads = populations[name].parts
    assert heads == populations["transformer.h.0.attn.las_attention.exp_node"].parts > 1
    assert found.messages[name] == found.traffic.by_population[name]
