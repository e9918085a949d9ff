"""Hypothesis draws the same examples in every run; each of several test processes (pytest -n) has one core."""

import os

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: idle OpenMP threads would spin on the others' cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = {"real_models", "test_shared_cases.py"}

settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],  # measures time, which a busy machine stretches
)
settings.load_profile("deterministic")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names of tests must be the same in each process, so none may hold an address; what takes longest begins first."""
    nameless = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if nameless:
        raise pytest.UsageError(f"give ids to the parameters of {nameless[0]}")
    items.sort(key=lambda item: not LONGEST & {*item.path.parts})
