"""Does anybody watch? Hooks, wrapped modules, modes that follow operations, gradients, a backward pass under way.

The only file below analysis/ that uses private names of torch and accelerate. Each stands here with its
reason, and a test holds that it exists, so that a new torch fails there first.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import _get_current_dispatch_mode

# accelerate keeps its hook of a module, and the forward method that it wrapped, under these names.
OFFLOAD_HOOK = "_hf_hook"
WRAPPED_FORWARD = "_old_forward"

ChangeHook = Callable[[Any, bool], Any]


def offload_hook(module: nn.Module) -> Any:
    """What accelerate attached to a module whose tensors it moves, or None."""
    return module.__dict__.get(OFFLOAD_HOOK)


def rebind_forward(module: nn.Module) -> None:
    """Have accelerate call the forward method of the class that a module has now, not the one that it found."""
    if WRAPPED_FORWARD in module.__dict__:
        module.__dict__[WRAPPED_FORWARD] = type(module).forward.__get__(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether forward hooks or pre-hooks stand around a module: torch has no public way to ask."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def has_output_hooks(module: nn.Module) -> bool:
    """Whether a forward hook, such as a monitor's of SpikingJelly, may read a module's state after its call."""
    return bool(module._forward_hooks)


def change_hooks(module: nn.Module, before: ChangeHook, after: ChangeHook) -> None:
    """Put other hooks in the place of those that stand before and after a module, whose handles go on to remove them.

    Args:
        module: the module.
        before, after: from a hook, and whether it takes keyword arguments, to the one in its place; if that is
            another, it takes them.
    """
    for hooks, with_kwargs, change in (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs, before),
        (module._forward_hooks, module._forward_hooks_with_kwargs, after),
    ):
        for key, hook in hooks.items():
            hooks[key] = change(hook, key in with_kwargs)
            if hooks[key] is not hook:
                with_kwargs[key] = True


def children_of(module: nn.Module) -> Mapping[str, nn.Module | None]:
    """The modules in a module by name, as `named_children` gives them, in half the time: calls look them over."""
    return module._modules


def parameters_of(module: nn.Module) -> Mapping[str, nn.Parameter | None]:
    """The parameters of a module itself by name: attributes of modules are slow to find, and each call needs these."""
    return module._parameters


def buffers_of(module: nn.Module) -> Mapping[str, Tensor | None]:
    """The buffers of a module itself by name, as `parameters_of`."""
    return module._buffers


def has_own_forward(module: nn.Module) -> bool:
    """Whether somebody has put another forward method on a module than its class has; accelerate's moves tensors."""
    return "forward" in module.__dict__ and OFFLOAD_HOOK not in module.__dict__


def is_wrapped(module: nn.Module) -> bool:
    """Whether a call of a module does more than its class says: hooks, or a forward method of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or has_own_forward(module)


def operations_are_followed() -> bool:
    """Whether hooks of all modules, or a mode that sees each operation of torch (an audit, a counter), are set."""
    hooks = torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks
    return bool(hooks) or bool(torch._C._len_torch_dispatch_stack())


def is_traced(x: Tensor) -> bool:
    """Whether somebody writes operations down, who would not see a kernel, or the tensor is not what its memory holds.

    Compilers, fake tensors, proxies and forward-mode derivatives do; a negative view is not what its memory holds.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing() or x.is_neg() or forward_ad._current_level >= 0:
        return True
    return bool(torch._C._len_torch_dispatch_stack()) and _follows_shapes()


def is_captured() -> bool:
    """Whether a CUDA graph is being made: nothing on a GPU can be read by the host meanwhile."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def refuse_tracing() -> None:
    """Raise a RuntimeError where torch writes a call down as a graph, which would hold what one input led to."""
    if torch.jit.is_tracing() or _follows_shapes():
        raise RuntimeError(
            "a converted model cannot be traced: what a call does depends on its values; use torch.export in the "
            "accumulated execution, or save it with save_pretrained"
        )


def _follows_shapes() -> bool:
    """Whether operations are followed without values, by fake tensors or proxies."""
    if not torch._C._len_torch_dispatch_stack():
        return False
    return isinstance(_get_current_dispatch_mode(), FakeTensorMode | ProxyTorchDispatchMode)


def keeps_gradient(x: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether a gradient flows to `x` or to one of the parameters."""
    return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters))


def base_of(x: Tensor) -> Tensor | None:
    """The tensor whose memory a view looks at; None of what is no view. Nobody who follows functions sees it."""
    with uninterrupted():
        return x._base


def version_of(x: Tensor) -> int | None:
    """A number that grows whenever something is written to the memory of a tensor; None where torch does not count."""
    with uninterrupted():
        return None if x.is_inference() else x._version


def uninterrupted() -> AbstractContextManager[Any]:
    """Within this context torch functions are what they are, whatever modes intercept them around it."""
    return torch._C.DisableTorchFunction()  # type: ignore[no-any-return]


def in_backward() -> bool:
    """Whether a backward pass runs in this thread, as when gradient checkpointing computes a layer again."""
    return bool(torch._C._current_graph_task_id() != -1)
