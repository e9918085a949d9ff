"""Memory that is used again: never for two tensors at once, in any process, and not more of it than was said."""

import os
import pickle
import threading

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from las_sj.neurons import OATNode
from las_sj.neurons.buffers import BUFFERS, Buffers
from las_sj.neurons.kernels import host

MIB = 1 << 20
LIKE = torch.empty(0)


@pytest.fixture
def buffers() -> Buffers:
    return Buffers(kept_bytes=8 * MIB)


def of_mib(buffers: Buffers, size: int) -> Tensor:
    return buffers.empty((size, MIB // 4), LIKE)


def test_memory_is_used_again_when_the_last_view_is_gone(buffers):
    x = of_mib(buffers, 2)
    row, address = x[1], x.data_ptr()
    del x
    assert buffers.free_bytes == 0  # `row` lies in it
    assert of_mib(buffers, 2).data_ptr() != address
    del row
    assert address in {of_mib(buffers, 2).data_ptr(), of_mib(buffers, 2).data_ptr()}


def test_tensors_that_live_never_share_memory(buffers):
    tensors = []
    for number in range(40):
        tensors.append(of_mib(buffers, 1 + number % 3).fill_(number))
        if number % 4 == 3:
            del tensors[number % len(tensors)]
    values = [float(x.unique()) for x in tensors]
    assert len(set(values)) == len(values)


def test_free_memory_is_bounded(buffers):
    tensors = [of_mib(buffers, 3) for _ in range(5)]
    tensors.clear()
    assert 0 < buffers.free_bytes <= 8 * MIB
    buffers.release()
    assert buffers.free_bytes == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_are_like_the_given_one(buffers, dtype):
    x = buffers.empty((3, 2, MIB), torch.empty(0, dtype=dtype))
    assert x.dtype == dtype
    assert x.shape == (3, 2, MIB)
    assert x.is_contiguous()
    assert x.data_ptr() % 64 == 0
    assert x.untyped_storage().nbytes() == x.nbytes  # no more is pickled


def test_small_tensors_and_other_devices_are_left_to_torch(buffers):
    assert buffers.empty((3,), LIKE).untyped_storage().resizable()
    assert buffers.empty((3, MIB), LIKE.to("meta")).device.type == "meta"
    assert buffers.free_bytes == 0


def test_a_gradient_holds_what_it_needs(buffers):
    x = of_mib(buffers, 1).normal_().requires_grad_()
    y = (x * x).sum()
    kept = x.detach().clone()
    grad = torch.autograd.grad(y, x)
    of_mib(buffers, 1).zero_()
    assert torch.equal(grad[0], 2 * kept)


def test_threads_get_memory_of_their_own(buffers):
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            x = of_mib(buffers, 1).fill_(number)
            if not bool((x == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 < buffers.free_bytes <= 8 * MIB


def test_a_copy_can_be_pickled(buffers):
    x = of_mib(buffers, 1).fill_(5)
    assert torch.equal(pickle.loads(pickle.dumps(x)), x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_to_memory_of_its_own(buffers):
    x, held = of_mib(buffers, 1).fill_(1), buffers._lock
    with held:  # as if another thread were in it
        child = os.fork()
        if child == 0:
            x.fill_(2)
            os._exit(0 if float(of_mib(buffers, 1).fill_(3)[0, 0]) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bool((x == 1).all())


def test_a_tensor_can_be_shared_with_another_process(buffers):
    x = of_mib(buffers, 1).fill_(1)
    process = torch.multiprocessing.get_context("fork").Process(target=x.share_memory_().fill_, args=(2,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert bool((x == 2).all())


def test_trains_use_memory_again():
    if host.load() is None:
        pytest.skip("no C++ compiler")
    node = OATNode(1.0, 4.0, 16, step_mode="m")
    x_seq = torch.randn(2, 64, 1024)
    first = node(x_seq)
    expected, address = first.clone(), first.data_ptr()
    BUFFERS.release()
    del first
    again = node(x_seq)
    assert again.data_ptr() == address
    assert torch.equal(again, expected)
