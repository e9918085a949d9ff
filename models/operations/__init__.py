"""Conversion by operations: torch functions are intercepted, and each has a rule that a user can add to."""

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.state import register_state
from las_sj.models.operations.time_axis import TimeAxis

__all__ = ["Operation", "TimeAxis", "composite", "register_state", "rule"]
