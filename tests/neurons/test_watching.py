"""Private names of torch and accelerate stand in one file, and this torch has them."""

import re
from pathlib import Path

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from las_sj.neurons import OATNode, watching

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(
    r"torch\._(?!_)\w+|import _(?!_)\w+|fx\.experimental|_forward_(?:pre_)?hooks|_global_forward|_hf_hook|_old_fo"
    r"|_ad\._"
)


@pytest.mark.parametrize("folder", ["neurons", "models", "las_sj"])
def test_private_names_stand_in_one_file(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "watching.py"
        for name in PRIVATE.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_hooks() -> None:
    module = nn.Linear(2, 2)
    assert not watching.has_hooks(module)
    assert not watching.is_wrapped(module)
    before = module.register_forward_pre_hook(lambda *seen: None)
    assert watching.has_hooks(module)
    assert not watching.has_output_hooks(module)
    before.remove()
    after = module.register_forward_hook(lambda *seen: None)
    assert watching.has_output_hooks(module)
    after.remove()
    module.forward = lambda x: x  # type: ignore[method-assign]
    assert watching.is_wrapped(module)


def test_accelerate_hooks() -> None:
    """accelerate's attribute names: a module that it moves is not wrapped by anybody else."""
    module = nn.Linear(2, 2)
    assert watching.offload_hook(module) is None
    hook = ModelHook()
    add_hook_to_module(module, hook)
    assert watching.offload_hook(module) is hook
    assert not watching.is_wrapped(module)
    module.__class__ = type("Other", (nn.Linear,), {"forward": lambda self, x: "another"})
    assert module(torch.ones(1, 2)) != "another"
    watching.rebind_forward(module)
    assert module(torch.ones(1, 2)) == "another"


def test_followed_operations() -> None:
    assert not watching.operations_are_followed()
    handle = nn.modules.module.register_module_forward_hook(lambda *seen: None)
    assert watching.operations_are_followed()
    handle.remove()
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert watching.operations_are_followed()
    assert not watching.operations_are_followed()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced_tensors() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(watching.is_traced(x))
        return x + 1

    x = torch.ones(3)
    look(x)
    make_fx(look, tracing_mode="fake")(x)
    torch.jit.trace(look, x, check_trace=False)
    torch.func.jvp(look, (x,), (x,))
    assert seen == [False, True, True, True]
    assert watching.is_traced(torch.ones(3, dtype=torch.complex64).conj().imag)


def test_backward_passes() -> None:
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            seen.append(watching.in_backward())
            return x.clone()

        @staticmethod
        def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
            seen.append(watching.in_backward())
            return gradients[0]

    Look.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert seen == [False, True]
    assert not watching.in_backward()


def test_gradients() -> None:
    node, x = OATNode(1.0, 2.0, 4), torch.ones(2, requires_grad=True)
    assert watching.keeps_gradient(x, [])
    assert not watching.keeps_gradient(x.detach(), list(node.parameters()))
    node.theta_normal.requires_grad_()
    assert watching.keeps_gradient(x.detach(), list(node.parameters()))
    with torch.no_grad():
        assert not watching.keeps_gradient(x, [])


def test_versions() -> None:
    x = torch.zeros(3)
    before = watching.version_of(x)
    x.view(1, 3)[0, 1] = 1.0
    assert before is not None
    assert watching.version_of(x) != before
    with torch.inference_mode():
        assert watching.version_of(torch.zeros(3)) is None
