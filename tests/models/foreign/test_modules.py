"""Modules and forward methods that others put into a converted model: as in the ANN, in both executions."""

import copy
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from foreign_code import EQUAL, HEADROOM, VECTOR, assert_as_the_ann, first_output
from tiny_models import EXECUTIONS, MODELS, Model, convert_tiny, relative_error, run, token_ids
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import las_sj
from las_sj.models import sees_currents
from las_sj.models.foreign import ForeignModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning", "ignore:fan_in_fan_out is set to False"
)


class Wrapper(nn.Module):
    """What somebody writes around a decoder layer: it is not linear, and drops what is small."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self.layer(hidden_states.clamp(-2.0, 2.0), *args, **kwargs)
        return output * (output.abs() > 0.3)


def test_wrapper_around_a_decoder_layer() -> None:
    def wrap(model: Model) -> Model:
        model.model.layers[0] = Wrapper(model.model.layers[0])
        return model

    ann = MODELS["llama"]().double()
    expected = first_output(wrap(copy.deepcopy(ann)))
    snn = wrap(convert_tiny(ann, headroom=HEADROOM))
    assert_as_the_ann(snn, snn, expected)
    assert isinstance(snn.model.layers[0], ForeignModule)
    assert isinstance(snn.model.layers[0], Wrapper)
    mask = torch.ones(16, 10, dtype=torch.long)
    mask[3, :4] = 0
    with torch.no_grad():
        outputs = [run(snn, execution, input_ids=token_ids(16), attention_mask=mask)[0] for execution in EXECUTIONS]
    assert relative_error(outputs[0][mask.bool()], outputs[1][mask.bool()]) < EQUAL
    ids = snn.generate(token_ids(2), max_new_tokens=4, do_sample=False, pad_token_id=0)
    las_sj.set_execution(snn, "temporal")
    assert torch.equal(snn.generate(token_ids(2), max_new_tokens=4, do_sample=False, pad_token_id=0), ids)


def patch(model: Model, place: str) -> None:
    """Another forward method, as tools that edit activations put it on a module."""
    module = model.get_submodule(place)
    original = module.forward
    module.forward = lambda *args, **kwargs: original(*args, **kwargs) + VECTOR


@pytest.mark.parametrize("place", ["model.layers.0", "model.layers.1.mlp", "model.embed_tokens", "model.norm"])
def test_forward_methods_that_were_replaced(place: str) -> None:
    ann = MODELS["llama"]().double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    plain = first_output(ann)
    patch(ann, place)
    expected = first_output(ann)
    assert relative_error(expected, plain) > 0.02
    patch(snn, place)
    assert_as_the_ann(snn, snn, expected)
    del snn.get_submodule(place).forward
    assert_as_the_ann(snn, snn, plain)


@pytest.mark.parametrize("name", ["bert", "bert-classifier", "llama"])
def test_forward_method_of_the_model(name: str) -> None:
    """Replaced on the model itself; what it is handed, and hands on, are values."""

    def change(model: Model) -> None:
        original = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            key = next(iter(output))
            output[key] = output[key].tanh() + 0.5
            return output

        model.forward = forward

    ann = MODELS[name]().double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    change(ann)
    change(snn)
    assert_as_the_ann(snn, snn, first_output(ann))


def test_forward_method_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    ann = MODELS["llama"]().double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    plain, original = first_output(ann), LlamaDecoderLayer.forward
    monkeypatch.setattr(
        LlamaDecoderLayer, "forward", lambda self, *args, **kwargs: original(self, *args, **kwargs) + VECTOR
    )
    expected = first_output(ann)
    assert relative_error(expected, plain) > 0.02
    assert_as_the_ann(snn, snn, expected)
    monkeypatch.undo()
    assert_as_the_ann(snn, snn, plain)


class ScaledRotary(nn.Module):
    """What makes constants still does with something around it."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.rotary = rotary

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(1.1 * table for table in self.rotary(x, position_ids))


def around_rotary(model: Model) -> None:
    model.model.rotary_emb = ScaledRotary(model.model.rotary_emb)


def instead_of_rotary(model: Model) -> None:
    original = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda *args, **kwargs: tuple(1.1 * t for t in original(*args, **kwargs))


@pytest.mark.parametrize("change", [around_rotary, instead_of_rotary])
def test_constants_stay_constants(change: Callable[[Model], None]) -> None:
    ann = MODELS["llama"]().double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    change(ann)
    change(snn)
    assert_as_the_ann(snn, snn, first_output(ann))


Pair = namedtuple("Pair", "output weights")


@dataclass
class Record:
    """What some libraries return in place of a tuple."""

    output: Tensor
    weights: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.output, self.weights))


class Returning(nn.Module):
    """A wrapper around attention that changes its output, and hands it on in another container."""

    def __init__(self, inner: nn.Module, container: Any) -> None:
        super().__init__()
        self.inner, self.container = inner, container

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output, weights = self.inner(*args, **kwargs)
        return self.container(output * 1.5, weights)


@pytest.mark.parametrize(
    "container", [Pair, Record, lambda *items: list(items)], ids=["namedtuple", "dataclass", "list"]
)
def test_containers(container: Any) -> None:
    def wrap(model: Model) -> Model:
        layer = model.model.layers[1]
        layer.self_attn = Returning(layer.self_attn, container)
        model.model.layers[0].self_attn.register_forward_hook(
            lambda m, args, output: container(output[0] * 2, output[1])
        )
        return model

    ann = MODELS["llama"]().double()
    snn = wrap(convert_tiny(ann, headroom=HEADROOM))
    assert_as_the_ann(snn, snn, first_output(wrap(ann)))


class Hiding:
    """An object of a kind that nobody knows."""

    def __init__(self, *items: Any) -> None:
        self.output, self.weights = items

    def __iter__(self) -> Iterator[Any]:
        return iter((self.output, self.weights))


@pytest.mark.parametrize("by_hook", [False, True])
def test_tensors_that_cannot_be_found_are_refused(by_hook: bool) -> None:
    """A temporal call would take them for currents of all steps; the accumulated one takes them as they are."""
    snn = convert_tiny(MODELS["llama"]())
    layer = snn.model.layers[1]
    if by_hook:
        layer.self_attn.register_forward_hook(lambda m, args, output: Hiding(*output))
    else:
        layer.self_attn = Returning(layer.self_attn, Hiding)
    run(snn, "accumulated", input_ids=token_ids(1))
    with pytest.raises(TypeError, match="Hiding holds tensors of a temporal call that las_sj cannot find"):
        run(snn, "temporal", input_ids=token_ids(1))


def test_a_module_that_knows_time_sees_currents() -> None:
    """It is not run on sums."""

    @sees_currents
    class Look(Wrapper):
        shapes: ClassVar[list[torch.Size]] = []

        def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.shapes.append(hidden_states.shape)
            return self.layer(hidden_states, *args, **kwargs)

    snn = convert_tiny(MODELS["llama"]())
    expected = run(snn, "temporal", input_ids=token_ids(3))[0]
    snn.model.layers[0] = Look(snn.model.layers[0])
    assert torch.equal(run(snn, "temporal", input_ids=token_ids(3))[0], expected)
    assert Look.shapes == [(3 * 16, 10, 32)]


def test_a_layer_with_another_forward_method_is_not_converted() -> None:
    """It would go on to run the ANN's."""
    ann = MODELS["llama"]().double()
    patch(ann, "model.layers.1.mlp")
    with pytest.raises(ValueError, match=r"forward method of model.layers.1.mlp was replaced.*convert the model first"):
        convert_tiny(ann)


def test_pruned_and_parametrised_weights() -> None:
    """torch's own tools change weights, before and after conversion, and take the change back."""
    from torch.nn.utils import parametrizations, prune

    def change(model: Model) -> Model:
        prune.l1_unstructured(model.model.layers[0].mlp.down_proj, "weight", 0.5)
        parametrizations.weight_norm(model.model.layers[1].self_attn.q_proj)
        model.model.layers[1].self_attn.q_proj.parametrizations.weight.original0.data.mul_(1.5)
        return model

    ann = MODELS["llama"]().double()
    plain = first_output(ann)
    snn = change(convert_tiny(ann, headroom=HEADROOM))
    expected = first_output(change(ann))
    assert relative_error(expected, plain) > 0.02
    assert_as_the_ann(snn, snn, expected)
    prune.remove(snn.model.layers[0].mlp.down_proj, "weight")
    assert_as_the_ann(snn, snn, expected)


def test_layers_that_were_dropped() -> None:
    """A shallower model: its own list of layers, a new one."""

    def drop(model: Model) -> Model:
        model.model.layers = nn.ModuleList(list(model.model.layers)[:1])
        return model

    ann = MODELS["llama"]().double()
    snn = drop(convert_tiny(ann, headroom=HEADROOM))
    assert_as_the_ann(snn, snn, first_output(drop(ann)))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_layer_that_was_replaced_is_refused(execution: str) -> None:
    for place, other in (("lm_head", nn.Linear(32, 100)), ("model", MODELS["llama"]().model)):
        snn = convert_tiny(MODELS["llama"]())
        setattr(snn, place, other)
        with pytest.raises(RuntimeError, match="was replaced after conversion and is no spiking layer any more"):
            run(snn, execution, input_ids=token_ids())


def test_a_layer_is_copied_without_its_model() -> None:
    snn = convert_tiny(MODELS["llama"]())
    layer = copy.deepcopy(snn.model.layers[0].mlp)
    assert sum(p.numel() for p in layer.parameters()) < sum(p.numel() for p in snn.parameters()) / 4
    held = {type(value).__name__ for value in vars(layer.execution).values()}
    assert not any(isinstance(value, nn.Module) for value in vars(layer.execution).values()), held
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        assert torch.equal(layer(x), snn.model.layers[0].mlp(x))
