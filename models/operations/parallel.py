"""Processes that share the layers of a model that is converted by operations: currents remain what they are."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.distributed.tensor_parallel import (
    ALL_PARALLEL_STYLES,
    MoeExpertsParallel,
    ReplicatedWithGradAllReduce,
    RowwiseParallel,
    SequenceParallel,
    TensorParallelLayer,
)

from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.operations.partial_sums import partial_sums_of, unknown
from las_sj.models.operations.scope import Scope, active, paused
from las_sj.models.operations.time_axis import mark, time_axis_of

_PREFIX = "las_sj_"  # of the names of styles that are registered here
_AS_THEY_ARE = ("mla_kv_a_proj",)  # their functions have rules, and transformers knows them by their names


class Plans(NamedTuple):
    """The styles by which processes share a model, by the names of modules and parameters.

    Attributes:
        tensors: of those that share layers.
        experts: of those that share experts.
        weights: of those that fetch weights from each other.
    """

    tensors: dict[str, str]
    experts: dict[str, str]
    weights: dict[str, str]


class OfCurrents(TensorParallelLayer):
    """A style of transformers by which processes share a layer, around which currents keep their marks.

    What processes send each other is no operation of the model, so that nothing is intercepted there.

    Args:
        style: the style.
    """

    def __init__(self, style: TensorParallelLayer) -> None:
        self.style = style

    def validate_param(self, module: nn.Module, param: str, mesh: Any, parameter_name: str | None = None) -> None:
        """Raise what the style raises of a parameter."""
        self.style.validate_param(module, param, mesh, parameter_name)

    def shard_param(self, module: nn.Module, param: str, mesh: Any) -> None:
        """Leave a process its part of a parameter."""
        self.style.shard_param(module, param, mesh)

    def context_around_forward(self, module: nn.Module, mesh: Any) -> AbstractContextManager[Any]:
        """What the style has around the forward method."""
        context: AbstractContextManager[Any] = self.style.context_around_forward(module, mesh)
        return context

    def transform_inputs_pre_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], mesh: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the forward method of a process gets."""
        with paused():
            changed, named = self.style.transform_inputs_pre_forward(module, args, kwargs, mesh)
        return tuple(map(_alike, args, changed)), {name: _alike(kwargs.get(name), x) for name, x in named.items()}

    def transform_output_post_forward(self, module: nn.Module, output: Any, mesh: Any) -> Any:
        """What the parts of all processes make together."""
        if isinstance(self.style, RowwiseParallel):  # it adds the bias, which is shared over the time steps
            return self.style.transform_output_post_forward(module, output, mesh)
        with paused():
            changed = self.style.transform_output_post_forward(module, output, mesh)
        return _alike(output, changed)


class OfExperts(OfCurrents):
    """The style by which processes share experts: what an expert returns is whole before neurons code it."""

    def context_around_forward(self, module: nn.Module, mesh: Any) -> AbstractContextManager[Any]:
        """What the style has around the forward method, and sums over the processes within it."""
        scope = active()
        if scope is None:
            return super().context_around_forward(module, mesh)
        return self._with_whole_sums(scope, module, mesh)

    @contextmanager
    def _with_whole_sums(self, scope: Scope, module: nn.Module, mesh: Any) -> Iterator[None]:
        sums = partial_sums_of(module, mesh.get_group())
        with self.style.context_around_forward(module, mesh):
            before, scope.partial_sums = scope.partial_sums, sums
            try:
                yield
            finally:
                scope.partial_sums = before
        if not sums.are_whole:
            raise unknown(module)

    def transform_output_post_forward(self, module: nn.Module, output: Any, mesh: Any) -> Any:
        """What the experts return, which every process has; of a module that is called alone, the sum of the parts."""
        return output if active() is not None else super().transform_output_post_forward(module, output, mesh)


class SharedByProcesses(KnowsCalls):
    """Mixin of models that are converted by operations: processes share them by styles that know currents."""

    def _resolve_parallel_plans(self, *args: Any, **kwargs: Any) -> Plans:
        """Where transformers asks by which plans processes share the model; those of its tensors are changed."""
        plans = Plans(*super()._resolve_parallel_plans(*args, **kwargs))  # type: ignore[misc]
        if plans.experts or plans.weights:
            raise ValueError(
                f"{type(self).__name__} is converted by operations, and processes can share it by a tensor-parallel "
                "plan only: leave the plans of experts and of weights out, or load it with device_map"
            )
        return plans._replace(tensors={name: _known(name, style) for name, style in plans.tensors.items()})

    def gather_sharded_state_dict_for_save(
        self, model_to_save: nn.Module, state_dict: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The whole weights, of the parts that the processes have; torch does not join those of fused layers."""
        joined = {name: _joined(value) if isinstance(value, DTensor) else value for name, value in state_dict.items()}
        gathered: dict[str, Any] = super().gather_sharded_state_dict_for_save(  # type: ignore[misc]
            model_to_save, joined, *args, **kwargs
        )
        return gathered


def _joined(weight: DTensor) -> Tensor:
    """A weight of several layers beside each other, of each of which a process has a part; others as they are."""
    placement = weight.placements[0]
    layers, dim = getattr(placement, "split_factor", 1), getattr(placement, "dim", 0)
    if layers == 1:
        return weight
    local = weight.to_local().contiguous()
    parts = [torch.empty_like(local) for _ in range(weight.device_mesh.size())]
    dist.all_gather(parts, local, group=weight.device_mesh.get_group())
    of_processes = [part.chunk(layers, dim) for part in parts]
    return torch.cat([part[layer] for layer in range(layers) for part in of_processes], dim)


def _known(name: str, style: str) -> str:
    """The name of a style that keeps the marks of currents, in place of one that loses them."""
    found = ALL_PARALLEL_STYLES[style]
    if isinstance(found, SequenceParallel):
        raise ValueError(
            f"the tensor-parallel plan has processes share the tokens of {name} ({style}), where neurons need whole "
            "ones: load the model with device_map"
        )
    if style in _AS_THEY_ARE or isinstance(found, OfCurrents | ReplicatedWithGradAllReduce):
        return style
    kind = OfExperts if isinstance(found, MoeExpertsParallel) else OfCurrents
    ALL_PARALLEL_STYLES[_PREFIX + style] = kind(found)
    return _PREFIX + style


def _alike(x: Any, other: Any) -> Any:
    axis = time_axis_of(x)
    return other if axis is None else mark(other, axis)
