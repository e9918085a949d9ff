"""Where tables and thresholds go when a model is converted on other devices, which fake tensors stand in for here."""

from collections.abc import Callable

import pytest
from tiny_families import TINY_MODELS, Model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from las_sj.config import LASConfig
from las_sj.conversion.convert import place_neurons
from las_sj.models import named_sites, swap_modules


def _swapped_on(architecture: str, device_of: Callable[[str], str]) -> Model:
    """A model with spiking layers, whose weights are on devices that need not exist; its neurons are where it began."""
    model = TINY_MODELS[architecture].build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for name, module in model.named_modules():
            for own, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, own, nn.Parameter(parameter.to(device_of(name))))
    swap_modules(model, LASConfig().factory())
    return model


def _place(model: Model) -> dict[str, set[str]]:
    """The devices of all that each population of neurons has, by the name of the population, once it is placed."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        place_neurons(model)
    return _devices_of_sites(model)


def _devices_of_sites(model: Model) -> dict[str, set[str]]:
    return {
        name: {str(tensor.device) for tensor in (*site.node.parameters(), *site.node.buffers())}
        for name, site in named_sites(model)
    }


@pytest.mark.parametrize("architecture", TINY_MODELS)
def test_all_neurons_go_to_the_device_of_the_model(architecture: str) -> None:
    model = _swapped_on(architecture, lambda name: "cuda:0")
    assert set().union(*_devices_of_sites(model).values()) == {"cpu"}  # where they are made
    devices = _place(model)
    assert len(devices) > 50
    assert devices == {name: {"cuda:0"} for name in devices}


@pytest.mark.parametrize(
    ("architecture", "second"),
    [("LlamaForCausalLM", "model.layers.1"), ("GPT2LMHeadModel", "transformer.h.1"), ("ViTModel", "layers.1")],
)
def test_neurons_of_a_model_on_two_devices_go_where_their_own_layer_is(architecture: str, second: str) -> None:
    def device_of(name: str) -> str:
        return "cuda:1" if name.startswith(f"{second}.") else "cuda:0"

    devices = _place(_swapped_on(architecture, device_of))
    assert devices == {name: {device_of(name)} for name in devices}
    assert {device for found in devices.values() for device in found} == {"cuda:0", "cuda:1"}
