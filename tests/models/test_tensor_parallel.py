"""Two processes share a converted model, by transformers' own plan: together they give what one gives alone."""

import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import ENVIRONMENT, started
from safetensors.torch import load_file
from tiny_families import TINY_MODELS, Model
from tiny_models import calibration_batches, padding_mask, token_ids
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, MixtralConfig, MixtralForCausalLM

import las_sj

WORKER = Path(__file__).parents[1] / "support" / "shared_by_processes.py"
NAMES = ("Llama", "Qwen3", "GPTNeoX", "Phi3", "Mixtral", "Gemma3", "GPTNeoX by operations")
INPUTS = {"input_ids": token_ids(3, 10), "attention_mask": padding_mask("left")}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "vocab_size": 100,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


def build(name: str) -> Model:
    """With biases that matter: a process adds them once, after the sum of all parts."""
    torch.manual_seed(0)
    if name == "Mixtral":
        model = MixtralForCausalLM(MixtralConfig(**_SIZES, num_local_experts=4)).eval()
    elif name == "Gemma3":
        config = Gemma3TextConfig(**_SIZES, sliding_window=4, layer_types=["sliding_attention"])
        model = Gemma3ForCausalLM(config).eval()
    else:
        model = TINY_MODELS[f"{name}ForCausalLM"].build()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@torch.no_grad()
def outputs(folder: Path) -> dict[str, Any]:
    snn, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), {}
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        found[execution] = snn(**INPUTS).logits
        found[f"{execution} text"] = snn.generate(**INPUTS, max_new_tokens=4, do_sample=False)
    return found


def environments() -> list[dict[str, str]]:
    """Of two processes, as torchrun gives them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    return [ENVIRONMENT | shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the models, and what each of two processes has found, process-*.pt."""
    folder = tmp_path_factory.mktemp("shared")
    build("Llama").save_pretrained(folder / "ann")
    for name in (*NAMES, "OPT"):
        model, _, by_operations = name.partition(" by ")
        config = las_sj.LASConfig(time_steps=8, by_operations=bool(by_operations))
        snn = las_sj.convert(build(model), config, calibration_batches())
        snn.save_pretrained(folder / name)
    torch.save(INPUTS, folder / "inputs.pt")
    with ExitStack() as stack:
        both = [stack.enter_context(started(WORKER, folder, *NAMES, environment=of_rank)) for of_rank in environments()]
        for process in both:
            assert process.wait() == 0, process.err.read_text()
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_both_executions_and_texts(name: str, folder: Path) -> None:
    """In fp64, where sums in two parts do not move a code."""
    expected = outputs(folder / name)
    for rank in (0, 1):
        found = torch.load(folder / f"process-{rank}.pt")[name]
        assert found["shards"] > 0
        for execution in ("accumulated", "temporal"):
            torch.testing.assert_close(found[execution], expected[execution], rtol=1e-9, atol=1e-12)
            assert torch.equal(found[f"{execution} text"], expected[f"{execution} text"])


@pytest.mark.parametrize("name", NAMES)
def test_what_they_save_is_whole(name: str, folder: Path) -> None:
    saved, first = (load_file(place / "model.safetensors") for place in (folder / name / "again", folder / name))
    for weight, value in first.items():
        assert torch.equal(saved[weight], value), weight
    again, expected = outputs(folder / name / "again"), outputs(folder / name)
    for what, value in expected.items():
        assert torch.equal(again[what], value), what


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("gradients", "RuntimeError: .* has no gradients: call it within torch.no_grad"),
        ("monitor", "ValueError: counting spikes needs a whole model, and each of 2 processes has a part of this one"),
        ("audit", "ValueError: an audit needs a whole model"),
        ("picture", "ValueError: looking at neurons needs a whole model"),
        ("conversion", "ValueError: conversion needs a whole model"),
        (
            "tokens",
            "ValueError: .* share the tokens of model.layers.0.mlp .sequence_parallel.*: load the model",
        ),
        ("experts", "ValueError: MixtralForCausalLM is converted by operations, and .* leave the plans of experts"),
        ("no plan", "ValueError: .*OPTForCausalLM.* has no .tp_plan"),
    ],
)
def test_refused_in_one_line(what: str, says: str, folder: Path) -> None:
    for rank in (0, 1):
        message = torch.load(folder / f"process-{rank}.pt")["refused"][what]
        assert "\n" not in message
        assert re.match(says, message), message
