"""Does the converted network compute what the ANN computes? Checked with coding bypassed, module by module.

Each module is compared on what it receives in the ANN, since what the modules before it return is replaced by what they
return there: differences do not build up. Models of half precision are compared in single precision.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from las_sj.conversion.in_single_precision import in_single_precision
from las_sj.data.batches import is_large
from las_sj.models import execution_of, named_sites, running
from las_sj.models.few_steps import few_steps, steps_of_call
from las_sj.models.layers.embedding import SpikingEmbedding
from las_sj.models.operations.scope import paused
from las_sj.models.operations.time_axis import OneStep, Timeline, alike, time_axis_of
from las_sj.models.passive import makes_constants
from las_sj.neurons import WindowNode
from las_sj.neurons.window import uneven_shares

TOLERANCE = 1e-4  # of relative differences
PROBE_ROWS, PROBE_TOKENS = 2, 16
TEXT = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", "use_cache"}

Outputs = dict[str, list[Tensor]]  # of each module by name, call by call


class StructureError(RuntimeError):
    """The converted network is not equivalent to the ANN; the message names the module where they part."""


def probe_of(batch: dict[str, Any]) -> dict[str, Any]:
    """A small piece of a batch, with padding at the end of its last row; a batch with images as it is."""
    ids = batch.get("input_ids")
    if set(batch) - TEXT or ids is None or ids.dim() != 2 or ids.shape[1] < 2:
        return dict(batch)
    ids = ids[:PROBE_ROWS, :PROBE_TOKENS]
    if len(ids) == 1:
        ids = ids.repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[-1, -max(1, ids.shape[1] // 4) :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def record_outputs(model: nn.Module, probe: dict[str, Any]) -> Outputs:
    """The first tensor that each module returns, each time that it is called, in a call of `model` on `probe`.

    Half precision is computed in single precision.

    Args:
        model: any model.
        probe: keyword arguments of a call.
    """
    outputs: Outputs = {}

    def keep(name: str, tensor: Tensor) -> None:
        outputs.setdefault(name, []).append(tensor.float().cpu().clone())  # modelling code may change it in place

    _look_at_outputs(model, probe, keep)
    return outputs


@torch.no_grad()
def _look_at_outputs(model: nn.Module, probe: dict[str, Any], look: Callable[[str, Tensor], Tensor | None]) -> None:
    """Call `look` with the name of each module and the first tensor that it returns, as the modules finish.

    What `look` returns goes on in the place of that tensor.
    """

    def watch(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            with paused():
                tensor = next(_tensors(output), None)
                if tensor is None:
                    return None
                other = look(name, alike(tensor, tensor.detach()))
                return None if other is None else _with_another(output, tensor, alike(tensor, other))

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if not isinstance(module, WindowNode) and not makes_constants(module)
    ]
    try:
        with in_single_precision(model):
            model(**probe)
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, tuple | list):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, dict):
        for item in output.values():
            yield from _tensors(item)


def _with_another(output: Any, tensor: Tensor | None, other: Tensor) -> Any:
    """What a module returned, with another tensor in the place of one in it."""
    if output is tensor:
        return other
    if isinstance(output, ModelOutput):
        return type(output)(**{key: _with_another(item, tensor, other) for key, item in output.items()})
    if type(output) in (tuple, list):
        return type(output)(_with_another(item, tensor, other) for item in output)
    return output


@contextmanager
def bypassed_coding(model: nn.Module) -> Iterator[None]:
    """Within this context neurons pass values through uncoded."""
    nodes = [site.node for _, site in named_sites(model)]
    for node in nodes:
        node.bypass = True
    try:
        yield
    finally:
        for node in nodes:
            node.bypass = False


def check_structure(model: nn.Module, probe: dict[str, Any], expected: Outputs) -> dict[str, float]:
    """Compare a converted model, coding bypassed, with the ANN, in both executions.

    A model that is converted by operations runs in few steps on large images or sound (`few_steps`).

    Args:
        model: the converted model, in the accumulated execution, in which it is left.
        probe: the call that `expected` was recorded with.
        expected: `record_outputs` of the ANN.

    Returns:
        The largest relative difference of a module's output, by execution.

    Raises:
        StructureError: a difference exceeds the tolerance.
    """
    mask = probe.get("attention_mask")
    mask = mask.bool().cpu() if isinstance(mask, Tensor) and mask.dim() == 2 else None
    with bypassed_coding(model), few_steps(is_large(probe)):
        accumulated = _Comparison(model, expected, mask)
        _look_at_outputs(model, probe, accumulated.compare)
        with running(model, "temporal"):
            time_steps = execution_of(model).time_steps
            steps = time_steps if execution_of(model).operated is None else steps_of_call(time_steps)
            temporal = _Comparison(model, expected, mask, steps)
            _look_at_outputs(model, probe, temporal.compare)
    return {"accumulated": accumulated.worst, "temporal": temporal.worst}


class _Comparison:
    """Compares the outputs of a converted model's modules with those of the ANN, and puts these in their place.

    Args:
        model: the converted model.
        expected: of the ANN.
        mask: bool [B, S], False on padding, or None.
        time_steps: of a temporal run.

    Attributes:
        worst: the largest relative difference.
    """

    def __init__(self, model: nn.Module, expected: Outputs, mask: Tensor | None, time_steps: int | None = None) -> None:
        self.modules = dict(model.named_modules())
        self.expected = expected
        self.mask = mask
        self.time_steps = time_steps
        self.is_operated = execution_of(model).operated is not None
        self.worst = 0.0
        self.calls: Counter[str] = Counter()

    def compare(self, name: str, output: Tensor) -> Tensor | None:
        """Compare what a module returned; what it returns in the ANN, as it goes on, where that is known.

        Raises:
            StructureError: they differ.
        """
        module, title = self.modules[name], name or "the model"
        references, call = self.expected.get(name, []), self.calls[name]
        self.calls[name] += 1
        if call >= len(references) or getattr(module, "absorbs", False):
            return None  # a module that the ANN has not, or a layer that does more than the original
        if isinstance(time_axis_of(output), OneStep):
            return None  # a part of the batch, which is compared when it is together again
        reference = references[call]
        self._compare(title, module, output, reference)
        return self._in_place_of(output, reference)

    def _compare(self, title: str, module: nn.Module, output: Tensor, reference: Tensor) -> None:
        # Inside of an adapter layers are given values, and return them.
        is_source = isinstance(module, SpikingEmbedding) and module.execution.temporal
        output = self._over_time(output, reference, is_source).float().cpu()
        if output.shape != reference.shape and output.numel() == reference.numel():
            output = output.view(reference.shape)
        if output.shape != reference.shape:
            raise StructureError(f"{title} returns shape {list(output.shape)}, {list(reference.shape)} in the ANN")
        output, reference = _of_tokens(output, self.mask), _of_tokens(reference, self.mask)
        difference = float((output - reference).norm() / reference.norm().clamp(min=1e-12))
        if not difference <= TOLERANCE:
            other = "the ANN" if self.time_steps is None else "the accumulated run"
            raise StructureError(f"{title} ({type(module).__name__}) differs from {other}: {difference:.1e}")
        self.worst = max(self.worst, difference)

    def _in_place_of(self, output: Tensor, reference: Tensor) -> Tensor | None:
        """The ANN's output as this one: a value, or currents whose steps have uneven shares; None for other shapes."""
        axis = time_axis_of(output)
        if self.time_steps is not None and axis is not None:
            time, shares = Timeline(self.time_steps), uneven_shares(self.time_steps, output).flatten()
            return time.spread(reference.to(output).view(time.total(output, axis).shape), axis, shares)
        if self.is_operated and self.time_steps is not None:
            return None  # a constant, though it may be repeated for all steps
        if output.numel() == reference.numel():
            whole = self.time_steps is None or output.shape[:1] != reference.shape[:1]
            return reference.to(output).clone().view(output.shape) if whole else None
        if self.time_steps is None or output.numel() != self.time_steps * reference.numel():
            return None
        value = reference.to(output)
        return (value * uneven_shares(self.time_steps, value)).view(output.shape)

    def _over_time(self, output: Tensor, reference: Tensor, is_source: bool) -> Tensor:
        if self.time_steps is None:
            return output
        axis = time_axis_of(output)
        if axis is not None:
            return Timeline(self.time_steps).total(output, axis)
        if self.is_operated:  # a constant, which may be repeated for all steps
            repeated = output.numel() == self.time_steps * reference.numel()
            return output[: len(output) // self.time_steps] if repeated else output
        if output.shape[:1] != reference.shape[:1]:
            whole = output.shape[0] % self.time_steps == 0
            return output.unflatten(0, (self.time_steps, -1)).sum(0) if whole else output
        # One row of positions for all sequences is a constant current; a readout returns sums.
        return output * self.time_steps if is_source else output


def _of_tokens(output: Tensor, mask: Tensor | None) -> Tensor:
    """Without padding: where all that a token may attend to is padding, implementations differ."""
    if mask is not None and output.shape[:2] == mask.shape:
        return output[mask]
    if mask is not None and output.dim() == 2 and len(output) == mask.numel():
        return output[mask.flatten()]
    return output
