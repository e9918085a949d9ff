"""Does the converted network compute what the ANN computes? Checked with coding bypassed, module by module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from transformers import PreTrainedModel

from las_sj.models import named_sites, parts_of
from las_sj.models.embedding import SpikingEmbedding

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
PROBE_ROWS, PROBE_TOKENS = 2, 16
TEXT = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", "use_cache"}

Outputs = dict[str, Tensor]
Total = Callable[[str, Tensor], Tensor]


class StructureError(RuntimeError):
    """The converted network is not equivalent to the ANN; the message names the module where they part."""


def probe_of(batch: dict[str, Any]) -> dict[str, Any]:
    """A small piece of a batch, with padding at the end of its last row; a batch with images as it is."""
    if set(batch) - TEXT or "input_ids" not in batch or batch["input_ids"].shape[1] < 2:
        return dict(batch)
    ids = batch["input_ids"][:PROBE_ROWS, :PROBE_TOKENS]
    if len(ids) == 1:
        ids = ids.repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[-1, -max(1, ids.shape[1] // 4) :] = 0
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def record_outputs(model: PreTrainedModel, probe: dict[str, Any], total: Total | None = None) -> Outputs:
    """The first tensor that each module returns in a call on `probe`, in the order in which modules finish.

    Args:
        model: any model.
        probe: keyword arguments of a call.
        total: applied to the name of each module and its tensor (sums a temporal run over T).
    """
    outputs: Outputs = {}

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensor = next(_tensors(output), None)
            if tensor is not None:
                tensor = tensor.detach()
                outputs[name] = (tensor if total is None else total(name, tensor)).float().cpu()

        return hook

    handles = [
        module.register_forward_hook(record(name))
        for name, module in model.named_modules()
        if name and "Rotary" not in type(module).__name__  # these return constants, not currents
    ]
    try:
        model(**probe)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


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


@contextmanager
def bypassed_coding(model: PreTrainedModel) -> Iterator[None]:
    """Within this context neurons pass values through uncoded."""
    nodes = [site.node for _, site in named_sites(model)]
    for node in nodes:
        node.bypass = True
    try:
        yield
    finally:
        for node in nodes:
            node.bypass = False


def check_structure(model: PreTrainedModel, probe: dict[str, Any], expected: Outputs) -> dict[str, float]:
    """Compare a converted model, coding bypassed, with the ANN, in both executions.

    Args:
        model: the converted model; its step mode is left "s".
        probe: the call that `expected` was recorded with.
        expected: `record_outputs` of the ANN.

    Returns:
        The largest relative difference of a module's output, by execution.

    Raises:
        StructureError: a difference exceeds the tolerance.
    """
    time_steps = parts_of(model).time_steps

    def over_time(name: str, tensor: Tensor) -> Tensor:
        if name not in expected or tensor.shape[:1] != expected[name].shape[:1]:
            return tensor.unflatten(0, (time_steps, -1)).sum(0) if tensor.shape[0] % time_steps == 0 else tensor
        # One row of positions for all sequences is a constant current; a readout returns sums.
        return tensor * time_steps if isinstance(model.get_submodule(name), SpikingEmbedding) else tensor

    mask = probe.get("attention_mask")
    mask = mask.bool().cpu() if isinstance(mask, Tensor) and mask.dim() == 2 else None
    worst = {}
    with bypassed_coding(model):
        worst["accumulated"] = _compare(record_outputs(model, probe), expected, "the ANN", model, mask)
        functional.set_step_mode(model, "m")
        try:
            temporal = record_outputs(model, probe, over_time)
        finally:
            functional.set_step_mode(model, "s")
        worst["temporal"] = _compare(temporal, expected, "the accumulated run", model, mask)
    return worst


def _compare(outputs: Outputs, expected: Outputs, other: str, model: PreTrainedModel, mask: Tensor | None) -> float:
    tolerance = TOLERANCE[next(model.parameters()).dtype]
    worst = 0.0
    for name, reference in expected.items():
        if name not in outputs or getattr(model.get_submodule(name), "absorbs", False):
            continue  # replaced as a whole by the module around it, or does more than the original
        output = outputs[name]
        if output.shape != reference.shape and output.numel() == reference.numel():
            output = output.view(reference.shape)
        if output.shape != reference.shape:
            raise StructureError(f"{name} returns shape {list(output.shape)}, {list(reference.shape)} in the ANN")
        output, reference = _of_tokens(output, mask), _of_tokens(reference, mask)
        difference = float((output - reference).norm() / reference.norm().clamp(min=1e-12))
        if not difference <= tolerance:
            raise StructureError(
                f"{name} ({type(model.get_submodule(name)).__name__}) differs from {other}: {difference:.1e}"
            )
        worst = max(worst, difference)
    return worst


def _of_tokens(output: Tensor, mask: Tensor | None) -> Tensor:
    """Without padding: where all that a token may attend to is padding, implementations differ."""
    if mask is not None and output.shape[:2] == mask.shape:
        return output[mask]
    if mask is not None and output.dim() == 2 and len(output) == mask.numel():
        return output[mask.flatten()]
    return output
