"""Adapters, wrappers and hooks of others around a converted model's layers: as around the ANN's, in both executions."""

import copy
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, Model, bert, convert_tiny, gpt2, relative_error, run, token_ids
from torch import Tensor, nn
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, ViTConfig, ViTModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.models import sees_currents
from las_sj.models.foreign import ForeignModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning", "ignore:fan_in_fan_out is set to False"
)
LOSSLESS = 5e-4  # of codes, fp64, T = 16; what is put in changes outputs by 0.05 and more
EQUAL = 1e-9
HEADROOM = 4.0  # activations are larger with adapters than in calibration
ADAPTED: dict[str, tuple[str, list[str]]] = {
    "embeddings": ("llama", ["embed_tokens"]),
    "embeddings and positions": ("gpt2", ["wte", "wpe"]),
    "attention": ("llama", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "Conv1D": ("gpt2", ["c_attn", "c_proj", "c_fc"]),
    "gated block": ("llama", ["gate_proj", "up_proj", "down_proj"]),
    "head": ("llama", ["lm_head"]),
    "encoder": ("bert-classifier", ["query", "dense", "classifier"]),
}


def adapters(model: Model, targets: list[str], **options: Any) -> Model:
    """PEFT's model around `model`, with low-rank adapters that are not zero."""
    peft = pytest.importorskip("peft")
    around = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options))
    generator = torch.Generator().manual_seed(7)
    for name, parameter in around.named_parameters():
        if "lora_" in name or ("modules_to_save" in name and name.endswith(".weight")):  # and no threshold
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2
    return around.eval()


@torch.no_grad()
def first_output(model: Model) -> Tensor:
    """Of as many sequences as time steps, and of one, which is broadcast where it should not be."""
    return torch.cat([model(input_ids=token_ids(batch))[0] for batch in (16, 1)])


def assert_as_the_ann(around: Model, converted: Model, expected: Tensor) -> None:
    """In both executions `around` gives what the ANN does, and exactly the same."""
    outputs = []
    for execution in EXECUTIONS:
        las_sj.set_execution(converted, execution)
        outputs.append(first_output(around))
        assert relative_error(outputs[-1], expected) < LOSSLESS, execution
    assert relative_error(*outputs) < EQUAL


@pytest.mark.parametrize("place", ADAPTED)
@pytest.mark.parametrize("when", ["before", "after"])
def test_adapters(place: str, when: str) -> None:
    name, targets = ADAPTED[place]
    ann = MODELS[name]().double()
    plain = first_output(ann)
    around_ann = adapters(copy.deepcopy(ann), targets)
    expected = first_output(around_ann)
    assert relative_error(expected, plain) > 0.05
    if when == "after":
        around = adapters(convert_tiny(ann, headroom=HEADROOM), targets)
        converted = around.get_base_model()
    else:
        around = adapters(ann, targets)
        converted = convert_tiny(around.get_base_model(), headroom=HEADROOM)
        around.base_model.model = converted
        assert set(converted.las_coverage.analog.values()) == {"an adapter, which runs on sums over time"}
    assert_as_the_ann(around, converted, expected)
    with around.disable_adapter():
        assert_as_the_ann(around, converted, plain)
    merged = around.merge_and_unload()
    assert_as_the_ann(merged, merged, first_output(around_ann.merge_and_unload()))  # tied weights are merged together


def test_layers_that_are_trained_as_a_whole() -> None:
    """PEFT's modules_to_save: a copy of the head takes its place."""
    ann = MODELS["llama"]().double()
    options = {"modules_to_save": ["lm_head"]}
    expected = first_output(adapters(copy.deepcopy(ann), ["q_proj"], **options))
    around = adapters(convert_tiny(ann, headroom=HEADROOM), ["q_proj"], **options)
    assert_as_the_ann(around, around.get_base_model(), expected)


def test_adapters_are_trained() -> None:
    """Gradients of the adapters are those of the accumulated call, as far as those of the executions agree."""
    around = adapters(convert_tiny(MODELS["llama"]().double()), ["embed_tokens", "q_proj", "lm_head"]).train()
    ids, gradients = token_ids(), []
    for execution in EXECUTIONS:
        las_sj.set_execution(around.get_base_model(), execution)
        around.zero_grad()
        around(input_ids=ids, labels=ids).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in around.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == 2 * (1 + 2 + 1)
    for name, gradient in gradients[0].items():
        assert relative_error(gradients[1][name], gradient) < 0.02, name


def test_neurons_inside_of_adapters_spike() -> None:
    """As many spikes as in the layer without one, whose inputs are the same."""
    snn = convert_tiny(MODELS["llama"]().double())
    las_sj.set_execution(snn, "temporal")
    counts = []
    for model in (snn, adapters(copy.deepcopy(snn), ["v_proj", "lm_head"])):
        base = model if model is snn else model.get_base_model()
        with SpikeMonitor(base) as monitor, torch.no_grad():
            if model is snn:
                model(input_ids=token_ids())
            else:
                with model.disable_adapter():
                    model(input_ids=token_ids())
        counts.append([(site.neurons, site.spikes, site.synaptic_operations) for site in monitor.sites.values()])
    assert counts[0] == counts[1]
    assert sum(spikes for _, spikes, _ in counts[0]) > 1000


def test_adapters_are_not_saved_with_the_model(tmp_path: Any) -> None:
    around = adapters(convert_tiny(MODELS["llama"]()), ["q_proj"])
    with pytest.raises(ValueError, match="q_proj is an adapter, which a converted model cannot"):
        around.get_base_model().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    around.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


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


VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 0.3
Around = Callable[[Model], Any]


def after(place: str, change: Callable[[Any], Any]) -> Around:
    return lambda model: model.get_submodule(place).register_forward_hook(lambda m, args, output: change(output))


def before(place: str, change: Callable[[Tensor], Any]) -> Around:
    return lambda model: model.get_submodule(place).register_forward_pre_hook(lambda m, args: change(args[0]))


def before_with_kwargs(model: Model) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + VECTOR}

    return model.get_submodule("model.layers.1.self_attn").register_forward_pre_hook(hook, with_kwargs=True)


def in_place(output: Tensor) -> None:
    output.add_(VECTOR)


def in_place_of_a_tuple(output: tuple[Tensor, Any]) -> None:
    output[0][:, 0] = 0.0


HOOKS: dict[str, Around] = {
    "steering after a layer": after("model.layers.0", lambda output: output + VECTOR),
    "in place": after("model.layers.0", in_place),
    "in place, of a tuple": after("model.layers.1.self_attn", in_place_of_a_tuple),
    "embeddings": after("model.embed_tokens", lambda output: output * 1.5 + VECTOR),
    "a projection": after("model.layers.0.mlp.gate_proj", lambda output: output.clamp(min=-0.5)),
    "replaced": after("model.layers.1.mlp", torch.zeros_like),
    "the head": after("lm_head", lambda output: output.tanh()),
    "the model inside": after("model", lambda output: type(output)(last_hidden_state=output[0] + VECTOR)),
    "before a layer": before("model.layers.1", lambda x: x + VECTOR),
    "before a norm, a tuple": before("model.norm", lambda x: (x * VECTOR,)),
    "before, in place": before("model.layers.1", in_place),
    "before, by name": before_with_kwargs,
}


@pytest.mark.parametrize("time", ["before", "after"])
@pytest.mark.parametrize("name", HOOKS)
def test_hooks(name: str, time: str) -> None:
    """Registered before or after conversion; and removed again."""
    ann = MODELS["llama"]().double()
    plain = first_output(ann)
    if time == "before":
        handle = HOOKS[name](ann)
        snn = las_sj.convert(ann, las_sj.LASConfig(headroom=HEADROOM))
        handle.remove()
    else:
        snn = convert_tiny(ann, headroom=HEADROOM)
    ann = MODELS["llama"]().double()
    handle = HOOKS[name](ann)
    expected = first_output(ann)
    assert relative_error(expected, plain) > 0.02
    with_hook = HOOKS[name](snn)
    assert_as_the_ann(snn, snn, expected)
    with_hook.remove()
    assert_as_the_ann(snn, snn, plain)


def test_hooks_that_only_look_see_values_and_change_nothing() -> None:
    """Inputs, outputs and keyword arguments of every module, as they are in the ANN; trains where a hook asks."""
    ann = MODELS["gpt2"]().double()
    snn = convert_tiny(ann)
    seen: dict[str, dict[str, Tensor]] = {"ANN": {}}
    keep = first_tensors(seen["ANN"])
    for name, module in ann.named_modules():
        module.register_forward_hook(keep(name))
    plain = first_output(ann)
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        expected, model = first_output(snn), copy.deepcopy(snn)
        keep = first_tensors(seen.setdefault(execution, {}))
        for name in seen["ANN"]:
            model.get_submodule(name).register_forward_hook(keep(name))
        assert torch.equal(first_output(model), expected)
        assert relative_error(expected, plain) < LOSSLESS
    for name, value in seen["ANN"].items():
        for execution in EXECUTIONS:
            assert seen[execution][name].shape == value.shape, name
        assert relative_error(*(seen[execution][name] for execution in EXECUTIONS)) < EQUAL, name
        if "c_attn" not in name and "c_proj" not in name:  # a hook of a fed layer sees coded inputs
            assert relative_error(seen["temporal"][name], value) < 10 * LOSSLESS, name


def first_tensors(seen: dict[str, Tensor]) -> Callable[[str], Callable[..., None]]:
    def of(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output if isinstance(output, Tensor) else output[0]
            seen[name] = tensor.detach().clone()

        return hook

    return of


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


ADDED = {
    "position_ids": lambda batch: torch.arange(10).flip(0)[None].expand(batch, -1),
    "attention_mask": lambda batch: torch.tensor([[1] * 7 + [0] * 3] * batch),
}


@pytest.mark.parametrize("argument", ADDED)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_arguments_that_a_hook_adds(name: str, argument: str) -> None:
    """To the model, and to the one inside of it."""

    def add(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {argument: ADDED[argument](len(args[0] if args else kwargs["input_ids"]))}

    for place in ("", {"llama": "model", "gpt2": "transformer", "bert": ""}[name]):
        ann = MODELS[name]().double()
        snn = convert_tiny(ann, headroom=HEADROOM)
        for model in (ann, snn):
            model.get_submodule(place).register_forward_pre_hook(add, with_kwargs=True)
        assert_as_the_ann(snn, snn, first_output(ann))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_hooks_on_a_model_see_its_loss(execution: str) -> None:
    """And a change of the logits leaves it alone, where the loss is computed at the end of a temporal call, too."""
    snn = convert_tiny(gpt2(GPT2ForSequenceClassification, num_labels=3, pad_token_id=0))
    batch = {"input_ids": token_ids(2), "labels": torch.tensor([0, 2])}
    expected = run(snn, execution, **batch)
    seen = []

    def look(module: nn.Module, args: Any, output: Any) -> Any:
        seen.append(output.loss)
        return type(output)(**{**output, "logits": output.logits * 3})

    snn.register_forward_hook(look)
    found = run(snn, execution, **batch)
    assert torch.equal(seen[0], expected.loss)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.logits, expected.logits * 3)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["LoRA", "DoRA"])
def test_adapters_on_convolutions(execution: str, options: dict[str, Any]) -> None:
    """PEFT makes its own convolutions of the class that the layer has."""
    pytest.importorskip("peft")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16}
    ann = ViTModel(ViTConfig(**sizes, intermediate_size=64, patch_size=4)).eval().double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(headroom=HEADROOM), [{"pixel_values": images}])
    targets = [name for name, module in ann.named_modules() if isinstance(module, nn.Conv2d)]
    outputs = []
    for model in (ann, snn):
        around = adapters(model, targets, **options)
        if model is snn:
            las_sj.set_execution(snn, execution)
        with torch.no_grad():
            outputs.append(around(pixel_values=images)[0])
    assert relative_error(outputs[1], outputs[0]) < 5 * LOSSLESS


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


def test_hooks_that_know_time_see_currents() -> None:
    snn = convert_tiny(MODELS["llama"]())
    shapes: list[torch.Size] = []

    @sees_currents
    def look(module: nn.Module, args: Any, output: Tensor) -> None:
        shapes.append(output.shape)

    handle = snn.model.layers[0].register_forward_hook(look)
    for execution in EXECUTIONS:
        run(snn, execution, input_ids=token_ids(3))
    assert shapes == [(3 * 16, 10, 32), (3, 10, 32)]
    handle.remove()
    run(snn, "temporal", input_ids=token_ids(3))
    assert len(shapes) == 2


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_what_a_hook_calls_is_a_call_of_its_own(execution: str) -> None:
    """The logit lens in a hook, and the model inside of the one under way, with other inputs and padding."""
    snn = convert_tiny(MODELS["llama"]().double(), headroom=HEADROOM)
    ids, mask = token_ids(2, 6, seed=4), torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    expected = run(snn, execution, input_ids=ids, attention_mask=mask)[0]
    lens, inner = [], []
    found = {}

    def look(module: nn.Module, args: Any, output: Tensor) -> None:
        handle.remove()
        found["state"] = output
        lens.append(snn.lm_head(snn.model.norm(output)))
        inner.append(snn.lm_head(snn.model(input_ids=ids, attention_mask=mask)[0]))

    handle = snn.lm_head.register_forward_hook(lambda *seen: None)
    handle.remove()
    handle = snn.model.layers[0].register_forward_hook(look)
    run(snn, execution, input_ids=token_ids(3))
    assert relative_error(inner[0], expected) < LOSSLESS
    with torch.no_grad():
        assert torch.equal(lens[0], snn.lm_head(snn.model.norm(found["state"])))


def test_a_mask_that_a_hook_gives_is_no_current() -> None:
    """A pre-hook that hides a token from one layer."""

    def hide(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        mask = kwargs["attention_mask"].clone()
        mask[..., 1:, 0] = torch.finfo(mask.dtype).min
        return args, kwargs | {"attention_mask": mask}

    ann = bert(BertForSequenceClassification, attn_implementation="eager").double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    attention_mask = torch.ones(16, 10, dtype=torch.long)
    attention_mask[2, 7:] = 0
    batch = {"input_ids": token_ids(16), "attention_mask": attention_mask}
    outputs = []
    for model in (ann, snn):
        place = model.get_submodule("bert.encoder.layer.0.attention.self")
        place.register_forward_pre_hook(hide, with_kwargs=True)
    with torch.no_grad():
        expected = ann(**batch)[0]
    outputs = [run(snn, execution, **batch)[0] for execution in EXECUTIONS]
    assert relative_error(outputs[0], outputs[1]) < EQUAL
    assert relative_error(outputs[0], expected) < LOSSLESS


def test_noise_on_embeddings_is_drawn_once() -> None:
    """NEFTune, as the Trainer does it, from one seed."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    ann = MODELS["llama"]().double()
    snn = convert_tiny(ann, headroom=HEADROOM)
    outputs = []
    for model, execution in ((ann, None), (snn, "accumulated"), (snn, "temporal")):
        embeddings = model.get_input_embeddings()
        embeddings.neftune_noise_alpha = 20.0
        if execution in (None, "accumulated"):
            embeddings.register_forward_hook(neftune_post_forward_hook)
        if execution is not None:
            las_sj.set_execution(model, execution)
        model.train()
        torch.manual_seed(3)
        outputs.append(first_output(model))
    assert relative_error(outputs[0], first_output(ann.eval())) > 0.05
    assert relative_error(outputs[1], outputs[0]) < LOSSLESS
    assert relative_error(outputs[2], outputs[1]) < EQUAL
