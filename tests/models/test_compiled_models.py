"""torch.compile and torch.export of converted models: accumulated calls are one graph, of operators of las_sj."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
import torch
from tiny_models import EXECUTIONS, Model, bert, convert_tiny, gpt2, llama, padding_mask, relative_error, run, token_ids
from torch import nn
from transformers import BertForSequenceClassification, Gemma2Config, Gemma2ForCausalLM

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.models import named_sites

MODELS: dict[str, Callable[[], Model]] = {  # one layer of each kind, and two of one: tracing takes its time
    "bert-classifier": lambda: bert(BertForSequenceClassification, num_labels=3, num_hidden_layers=1),
    "gpt2": lambda: gpt2(n_layer=1),
    "llama": llama,
}
STEP = 1e-3  # of last digits of codes that flip where inductor adds in another order, relative to the output


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")


def compiled(model: Model, **options: Any) -> Callable[..., Any]:
    """In one graph, or not at all; without a back end, which tests of operators and one of models here have."""
    return torch.compile(model, **{"fullgraph": True, "backend": "eager"} | options)


@torch.no_grad()
@pytest.mark.parametrize("name", list(MODELS))
def test_one_graph_for_all_lengths(name: str) -> None:
    """With padding and without, in as many shapes as come; nothing is compiled again after the second."""
    snn = convert_tiny(MODELS[name]())
    las_sj.set_execution(snn, "accumulated")
    call = compiled(snn)
    for index, length in enumerate(range(5, 25)):
        if index == 2:
            torch.compiler.set_stance("fail_on_recompile")
        inputs = {"input_ids": token_ids(3, length), "attention_mask": padding_mask("right", length)}
        assert torch.equal(call(**inputs)[0], snn(**inputs)[0])


@torch.no_grad()
def test_logits_are_capped_once(tmp_path: Path) -> None:
    """By the spiking readout, and not by modelling code: compilers read its option outside of any call."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, "head_dim": 8, "vocab_size": 100}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5}
    snn = convert_tiny(Gemma2ForCausalLM(Gemma2Config(**sizes, **heads)).eval())
    las_sj.set_execution(snn, "accumulated")
    inputs = {"input_ids": token_ids(2, 6), "use_cache": False}
    expected = snn(**inputs)[0]
    program = torch.export.export(copy.deepcopy(snn), (), inputs)
    assert torch.equal(program.module()(**inputs)[0], expected)
    snn.save_pretrained(tmp_path)
    loaded = type(snn).from_pretrained(tmp_path)
    assert loaded.config.final_logit_softcapping == 30.0
    las_sj.set_execution(loaded, "accumulated")
    assert torch.equal(compiled(loaded)(**inputs)[0], expected)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor() -> None:
    snn = convert_tiny(llama(num_hidden_layers=1))
    las_sj.set_execution(snn, "accumulated")
    call = compiled(snn, backend="inductor", dynamic=True)
    for length in (7, 12):
        ids = token_ids(2, length)
        assert relative_error(call(input_ids=ids)[0], snn(input_ids=ids)[0]) < STEP


def test_counts_and_gradients_are_those_of_a_call() -> None:
    """Compiled once with gradients, once without: what lies out of range is counted in both."""
    snn = convert_tiny(llama())
    las_sj.set_execution(snn, "accumulated")
    with torch.no_grad():
        snn.get_input_embeddings().weight.mul_(30.0)
    ids = token_ids()
    found: list[list[Any]] = []
    for call in (snn, compiled(snn)):
        for _, site in named_sites(snn):
            site.node.reset_counts()
        with torch.no_grad():
            call(input_ids=ids)
        snn.zero_grad()
        call(input_ids=ids)[0].square().sum().backward()
        gradients = [p.grad.clone() for p in snn.parameters() if p.grad is not None]
        found.append([[site.node.out_of_range for _, site in named_sites(snn)], gradients])
    (counts, gradients), (others, expected) = found
    assert counts == others
    assert sum(counts) > 0
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other)


@torch.no_grad()
def test_a_monitor_is_told_of_every_spike() -> None:
    """It begins after the model was compiled, which runs as it is then."""
    snn = convert_tiny(MODELS["bert-classifier"]())
    las_sj.set_execution(snn, "accumulated")
    inputs = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    call = torch.compile(snn, backend="eager")
    expected = call(**inputs)[0]
    counted = []
    for run_again in (snn, call):
        with SpikeMonitor(snn) as monitor:
            assert relative_error(run_again(**inputs)[0], expected) < STEP
            counted.append(monitor.spikes_per_neuron)
    assert counted[0] == counted[1] > 0
    assert torch.equal(call(**inputs)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_compile_in_place(execution: str) -> None:
    snn = convert_tiny(MODELS["gpt2"]())
    expected = run(snn, execution, input_ids=token_ids())[0]
    if execution == "temporal":
        with pytest.warns(UserWarning, match="torch.compile leaves temporal calls as they are"):
            snn.compile(backend="eager")
    else:
        snn.compile(backend="eager", fullgraph=True)
    assert torch.equal(run(snn, execution, input_ids=token_ids())[0], expected)


def test_a_layer_that_was_replaced_is_refused() -> None:
    snn = convert_tiny(MODELS["bert-classifier"]())
    las_sj.set_execution(snn, "accumulated")
    snn.classifier = nn.Linear(32, 3)
    with pytest.raises(Exception, match="classifier was replaced after conversion"):
        compiled(snn)(input_ids=token_ids())


RUN_AGAIN = """
import sys, torch, las_sj
for path in sys.argv[1:]:
    inputs, expected = torch.load(path + ".inputs")
    with torch.no_grad():
        found = torch.export.load(path).module()(**inputs)[0]
    assert torch.equal(found, expected), path
"""


@torch.no_grad()
def exported(model: Model, path: Path, **options: Any) -> None:
    """A program for any batch and length to a file, and beside it inputs of other sizes and their output."""
    inputs = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    shapes: dict[str, Any] = dict.fromkeys(inputs, sizes)
    program = torch.export.export(model, (), inputs | options, dynamic_shapes=shapes | dict.fromkeys(options))
    torch.export.save(program, path)
    others = {"input_ids": token_ids(2, 15), "attention_mask": padding_mask("right", 15)[:2]} | options
    torch.save((others, model(**others)[0]), f"{path}.inputs")


def test_exported_models_run_in_another_process(tmp_path: Path) -> None:
    """Which knows no more than las_sj and the file."""
    paths = []
    for name in MODELS:
        snn = convert_tiny(MODELS[name]())
        las_sj.set_execution(snn, "accumulated")
        paths.append(str(tmp_path / f"{name}.pt2"))
        exported(snn, Path(paths[-1]), **({} if "bert" in name else {"use_cache": False}))
    result = programs.run("-c", RUN_AGAIN, *paths, folder=tmp_path, anew=True)
    assert result.returncode == 0, result.stderr


def test_what_cannot_be_exported_says_why() -> None:
    snn = convert_tiny(MODELS["gpt2"]())
    las_sj.set_execution(snn, "temporal")
    with pytest.raises(RuntimeError, match="a temporal call cannot be exported"):
        torch.export.export(snn, (token_ids(),))
    las_sj.set_execution(snn, "accumulated")
    with SpikeMonitor(snn), pytest.raises(RuntimeError, match="cannot be exported while its neurons are observed"):
        torch.export.export(snn, (token_ids(),))
