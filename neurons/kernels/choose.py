"""Which kernels a population runs on."""

import logging
from functools import cache
from types import ModuleType

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from las_sj.neurons.kernels import cuda, host

BACKENDS = ("auto", "torch", "host", "cupy")

_log = logging.getLogger("las_sj")


def kernels_for(backend: str, x: Tensor) -> ModuleType | None:
    """The module that holds the kernels for a tensor, `host` or `cuda`; None for torch.

    "auto" takes what the tensor's device has; a backend that was asked for by name and is not there is announced once.
    """
    if backend == "torch" or type(x) not in (Tensor, nn.Parameter) or _is_traced(x):
        return None
    kind = x.device.type
    if kind == "cpu" and backend != "cupy":
        return host if x.dtype in host.DTYPES and host.load() is not None else None
    if kind == "cuda" and backend != "host":
        return cuda if x.dtype in cuda.DTYPES and cuda.available() else None
    if backend != "auto":
        _announce(f"backend {backend!r} does not work on tensors on {kind}: they run on torch")
    return None


def _is_traced(x: Tensor) -> bool:
    """Whether somebody follows operations of torch, who would not see a kernel, or the tensor is not what it holds."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or x.is_neg() or fwAD._current_level >= 0:
        return True
    if not torch._C._len_torch_dispatch_stack():
        return False
    mode = _get_current_dispatch_mode()
    return isinstance(mode, FakeTensorMode | ProxyTorchDispatchMode)


@cache
def _announce(message: str) -> None:
    _log.warning(message)
