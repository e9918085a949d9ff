"""Threads that share one converted model, as in a server, each get what a single thread gets."""

import copy
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, Model, convert_tiny, token_ids
from torch import nn

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.models import execution_of
from las_sj.models.call import Call, under_way

THREADS, CALLS = 8, 15
SWITCHES = 1e-4  # seconds; by default an interpreter goes to another thread every five milliseconds


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCHES)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Sums of one thread and of two may differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch_of(thread: int) -> dict[str, Any]:
    """Of another size for each thread, every second one with padding."""
    ids = token_ids(2, 6 + thread, seed=thread)
    mask = torch.ones_like(ids)
    if thread % 2:
        mask[0, :3] = 0
    return {"input_ids": ids, "attention_mask": mask}


def in_threads(work: Any) -> None:
    """work(thread) in `THREADS` threads at once; what one raises is raised."""
    errors: list[BaseException] = []

    def guarded(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_every_thread_gets_its_own_result(name: str, execution: str) -> None:
    snn = convert_tiny(MODELS[name]())
    las_sj.set_execution(snn, execution)
    with torch.no_grad():
        expected = [snn(**batch_of(thread))[0] for thread in range(THREADS)]
    wrong: list[int] = []

    def work(thread: int) -> None:
        with torch.no_grad():
            for _ in range(CALLS):
                if not torch.equal(snn(**batch_of(thread))[0], expected[thread]):
                    wrong.append(thread)

    in_threads(work)
    assert wrong == []


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_threads_generate(execution: str) -> None:
    """With a cache each, whose writes wait between attention module and core."""
    snn = convert_tiny(MODELS["llama"]())
    las_sj.set_execution(snn, execution)

    def generate(thread: int) -> list[int]:
        ids = snn.generate(batch_of(thread)["input_ids"], max_new_tokens=4, do_sample=False, pad_token_id=0)
        flat: list[int] = ids.flatten().tolist()
        return flat

    expected = [generate(thread) for thread in range(THREADS)]
    found: dict[int, list[int]] = {}
    in_threads(lambda thread: found.update({thread: generate(thread)}))
    assert [found[thread] for thread in range(THREADS)] == expected


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_monitored_threads_lose_no_count(execution: str) -> None:
    snn: Model = convert_tiny(MODELS["llama"]())
    las_sj.set_execution(snn, execution)

    def work(thread: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                snn(**batch_of(thread))

    with SpikeMonitor(snn) as alone:
        for thread in range(THREADS):
            work(thread)
    with SpikeMonitor(snn) as together:
        in_threads(work)
    assert (together.tokens, together.samples) == (alone.tokens, alone.samples)
    for name, counts in alone.sites.items():
        other = together.sites[name]
        assert (other.neurons, other.spikes, other.synapses, other.synaptic_operations, other.outliers) == (
            counts.neurons,
            counts.spikes,
            counts.synapses,
            counts.synaptic_operations,
            counts.outliers,
        ), name


def test_replicas_share_calls_and_copies_do_not() -> None:
    """nn.DataParallel copies modules shallowly, and layers keep the execution that they were made with."""
    execution = execution_of(convert_tiny(MODELS["llama"]()))
    replica, clone = copy.copy(execution), copy.deepcopy(execution)
    with under_way(Call(replica.identity, nn.Identity(), True, execution.time_steps)):
        assert execution.temporal
        assert not clone.temporal
