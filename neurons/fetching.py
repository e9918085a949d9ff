"""Tensors that accelerate has offloaded: fetched for as long as they are needed outside of their module's own call."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from torch import nn

from las_sj.neurons.watching import offload_hook


def fetched(modules: Iterable[nn.Module]) -> AbstractContextManager[object]:
    """Within this context the tensors of `modules` are where they are computed with."""
    hooked = [module for module in modules if offload_hook(module) is not None]
    if not hooked:
        return nullcontext()
    from accelerate.utils import align_module_device

    stack = ExitStack()
    for module in hooked:
        stack.enter_context(align_module_device(module))
    return stack
