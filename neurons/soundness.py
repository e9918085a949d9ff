"""What thresholds and tables must be before anything is computed with them: kernels read them without looking."""

import torch
from torch import Tensor

LEAST, MOST = 2.0**-90, 2.0**90  # of thresholds and ranges: T halvings of them stay normal numbers of fp32
_TABLE_TOLERANCE = 1e-5  # of entries derived on another machine, relative to the largest one


def bounded(magnitude: float) -> float:
    """The nearest magnitude that a threshold may have."""
    return min(max(magnitude, LEAST), MOST)


def fault_of_threshold(threshold: Tensor) -> str | None:
    """What is wrong with a threshold, scalar or [C], in words; None where nothing is."""
    if not threshold.is_floating_point():
        return f"must be floating-point numbers, got {threshold.dtype}"
    if threshold.is_meta or threshold.numel() == 0:
        return None
    least, most = (threshold, threshold) if threshold.dim() == 0 else torch.aminmax(threshold.detach())
    if float(least) >= LEAST and float(most) <= MOST:  # of NaN neither is true
        return None
    return f"must be finite and positive, within {LEAST:.1e}…{MOST:.1e}"


def fault_of_layout(table: Tensor, fitted: Tensor) -> str | None:
    """Why kernels cannot read a table in place of the one that was fitted, in words; None where they can.

    Args:
        table: of a node.
        fitted: what it must be like, on any device.
    """
    if table.is_floating_point() != fitted.is_floating_point() or (
        not fitted.is_floating_point() and table.dtype != fitted.dtype
    ):
        return f"must have the type {fitted.dtype}, got {table.dtype}"
    if table.shape != fitted.shape or not table.is_contiguous():
        return f"must be contiguous with the shape {list(fitted.shape)}, got {list(table.shape)}"
    return None


def fault_of_table(table: Tensor, fitted: Tensor) -> str | None:
    """What is wrong with a table that must equal the fitted one up to rounding, in words; None where nothing is."""
    fault = fault_of_layout(table, fitted)
    if fault is not None or table.is_meta:
        return fault
    found = table.detach().to("cpu", fitted.dtype)
    if torch.equal(found, fitted):
        return None
    tolerance = _TABLE_TOLERANCE * float(fitted.abs().amax()) if fitted.is_floating_point() else 0.0
    is_close = torch.allclose(found, fitted, rtol=_TABLE_TOLERANCE, atol=tolerance) if tolerance else False
    return None if is_close else "is not the table that its function, time steps and tolerance give"
