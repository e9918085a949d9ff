"""Other ways to run a model: autocast, the Trainer in bf16, torch.compile; and those that are refused, in one line."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, Model, convert_tiny, relative_error, run, token_ids
from torch import Tensor

import las_sj

NAMES = ("llama", "gpt2", "bert-classifier")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[Model, Model]:
    """An ANN and its conversion."""
    ann = MODELS[request.param]()
    return ann, convert_tiny(ann)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_loses_nothing(pair: tuple[Model, Model], execution: str, dtype: torch.dtype) -> None:
    """A call has the precision of its weights: the very output without autocast, also where gradients flow."""
    _, snn = pair
    ids = token_ids()
    expected = run(snn, execution, input_ids=ids)[0]
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(run(snn, execution, input_ids=ids)[0], expected)
        embeddings = snn.get_input_embeddings()(ids).to(dtype)  # from a part of the program that ran in half precision
        from_embeddings = run(snn, execution, inputs_embeds=embeddings)[0]
        assert torch.is_autocast_enabled("cpu")
        gradient = snn(input_ids=ids)[0].float().pow(2).sum()
        gradient.backward()
    assert relative_error(from_embeddings, expected) < 0.05
    assert all(bool(torch.isfinite(p.grad).all()) for p in snn.parameters() if p.grad is not None)
    snn.zero_grad()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_trainer_in_bf16(execution: str, tmp_path: Any) -> None:
    """It trains a step, and evaluates to the loss of the same network without autocast."""
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    snn = convert_tiny(MODELS["bert-classifier"]())
    las_sj.set_execution(snn, execution)
    examples = [{"input_ids": row, "labels": index % 3} for index, row in enumerate(token_ids(8))]
    settings = TrainingArguments(
        str(tmp_path), bf16=True, use_cpu=True, max_steps=1, report_to=[], save_strategy="no", disable_tqdm=True
    )
    trainer = Trainer(snn, settings, train_dataset=examples, eval_dataset=examples)
    loss = trainer.evaluate()["eval_loss"]
    labels = torch.tensor([example["labels"] for example in examples])
    expected = run(snn, execution, input_ids=token_ids(8), labels=labels).loss
    assert loss == pytest.approx(float(expected), rel=1e-5)
    weight = snn.classifier.weight.detach().clone()
    trainer.train()
    assert not torch.equal(snn.classifier.weight, weight)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_torch_compile_runs_temporal_calls_as_they_are(pair: tuple[Model, Model]) -> None:
    """However many lengths come: nothing is compiled, so nothing again."""
    _, snn = pair
    las_sj.set_execution(snn, "temporal")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # of tests before this one
    compiled = torch.compile(snn)
    with torch.no_grad():
        for length in range(3, 15):  # beyond torch's limit of recompilations
            ids = token_ids(2, length)
            assert torch.equal(compiled(input_ids=ids)[0], snn(input_ids=ids)[0])
    assert not torch._dynamo.utils.counters["stats"]


TRACERS: dict[str, Callable[[Model, tuple[Tensor]], Any]] = {
    "torch.jit.trace": torch.jit.trace,
    "ONNX": lambda model, inputs: torch.onnx.export(model, inputs, io.BytesIO(), dynamo=False),
}


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", TRACERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`is_gradient_checkpointing`:FutureWarning")
def test_traces_are_refused(pair: tuple[Model, Model], execution: str, name: str) -> None:
    """In one line; and the model goes on as before."""
    _, snn = pair
    las_sj.set_execution(snn, execution)
    with torch.no_grad():
        expected = snn(token_ids())[0]
        with pytest.raises(RuntimeError, match="a converted model cannot be traced") as refusal:
            TRACERS[name](snn, (token_ids(),))
        assert "\n" not in str(refusal.value)
        assert torch.equal(snn(token_ids())[0], expected)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_two_models_of_one_config(execution: str, tmp_path: Any) -> None:
    """Converting one leaves the other as it was: it runs, is saved, and loads as the ANN that it is."""
    first = MODELS["llama"]()
    second = copy.deepcopy(first)
    second.config = first.config
    for module in second.modules():
        if hasattr(module, "config"):
            module.config = first.config
    before = first.config.to_dict()
    with torch.no_grad():
        expected = second(input_ids=token_ids())[0]
    snn = las_sj.convert(first, las_sj.LASConfig())
    assert snn.config is not second.config
    assert second.config.to_dict() == before
    with torch.no_grad():
        assert torch.equal(second(input_ids=token_ids())[0], expected)
    second.save_pretrained(tmp_path / "second")
    loaded = type(second).from_pretrained(tmp_path / "second").eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=token_ids())[0], expected)
    assert relative_error(run(snn, execution, input_ids=token_ids())[0], expected) < 5e-4
