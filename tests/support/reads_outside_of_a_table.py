"""A test that must not pass where sanitizers look on: scripts/sanitize is given it to see that they do."""

import torch

from las_sj.neurons import HGNode
from las_sj.neurons.kernels import host


def test_more_cells_than_there_are() -> None:
    node, x = HGNode("gelu", 16), torch.tensor([[6.0]])
    gates = node.population.structure(x)
    gates.first_cell -= 1.0
    gates.cell_count += 1
    host.emit(gates, x, None, False, None, False)
