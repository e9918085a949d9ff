"""What thresholds and tables must be before anything is computed with them: kernels read them without looking."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

LEAST, MOST = 2.0**-90, 2.0**90  # of thresholds and ranges: T halvings of them stay normal numbers of fp32
_TABLE_TOLERANCE = 1e-5  # of entries derived on another machine, relative to the largest one


def bounded(magnitude: float) -> float:
    """The nearest magnitude that a threshold may have."""
    return min(max(magnitude, LEAST), MOST)


def fault_of_type(threshold: Tensor) -> str | None:
    """Why kernels cannot read a threshold, in words; None where they can."""
    return None if threshold.is_floating_point() else f"must be floating-point numbers, got {threshold.dtype}"


def fault_of_threshold(threshold: Tensor) -> str | None:
    """What is wrong with a threshold, scalar or [C], in words; None where nothing is."""
    fault = fault_of_type(threshold)
    if fault is not None or threshold.is_meta or threshold.numel() == 0:
        return fault
    least, most = (threshold, threshold) if threshold.dim() == 0 else torch.aminmax(threshold.detach())
    if float(least) >= LEAST and float(most) <= MOST:  # of NaN neither is true
        return None
    return f"must be finite and positive, within {LEAST:.1e}…{MOST:.1e}"


def faults_of_tables(
    tables: Mapping[str, Tensor], fitted: Mapping[str, Tensor], *, of_layout: bool
) -> Iterator[tuple[str, str]]:
    """Tables that are not the fitted ones of the same name: their names, and in words what is wrong with each.

    Args:
        tables: of a node, on any device.
        fitted: on the CPU.
        of_layout: whether only types and shapes are looked at.
    """
    for name, table in tables.items():
        fault = _fault_of_layout(table, fitted[name]) or (None if of_layout else _fault_of_values(table, fitted[name]))
        if fault is not None:
            yield name, fault


def _fault_of_layout(table: Tensor, fitted: Tensor) -> str | None:
    is_real = fitted.is_floating_point()
    if table.is_floating_point() != is_real or (not is_real and table.dtype != fitted.dtype):
        return f"must have the type {fitted.dtype}, got {table.dtype}"
    if table.shape != fitted.shape or not table.is_contiguous():
        return f"must be contiguous with the shape {list(fitted.shape)}, got {list(table.shape)}"
    return None


def _fault_of_values(table: Tensor, fitted: Tensor) -> str | None:
    if table.is_meta:
        return None
    found = table.detach().to("cpu", fitted.dtype)
    if torch.equal(found, fitted) or (fitted.is_floating_point() and _is_close(found, fitted)):
        return None
    return "is not the table that its function, time steps and tolerance give"


def _is_close(found: Tensor, fitted: Tensor) -> bool:
    return torch.allclose(found, fitted, rtol=_TABLE_TOLERANCE, atol=_TABLE_TOLERANCE * float(fitted.abs().amax()))
