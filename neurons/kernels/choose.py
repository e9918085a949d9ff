"""Which kernels a population runs on."""

import logging
from functools import cache
from types import ModuleType

from torch import Tensor, nn

from las_sj.neurons import watching
from las_sj.neurons.kernels import cuda, host

BACKENDS = ("auto", "torch", "host", "cupy")

_log = logging.getLogger("las_sj")


def kernels_for(backend: str, x: Tensor) -> ModuleType | None:
    """The module that holds the kernels for a tensor, `host` or `cuda`; None for torch.

    "auto" takes what the tensor's device has; a backend that was asked for by name and is not there is announced once.
    """
    if backend == "torch" or type(x) not in (Tensor, nn.Parameter) or watching.is_traced(x):
        return None
    if x.is_cpu and backend != "cupy":
        return host if x.dtype in host.DTYPES and host.load() is not None else None
    if x.is_cuda and backend != "host":
        return cuda if x.dtype in cuda.DTYPES and cuda.available() else None
    if backend != "auto":
        _announce(f"backend {backend!r} does not work on tensors on {x.device.type}: they run on torch")
    return None


@cache
def _announce(message: str) -> None:
    _log.warning(message)
