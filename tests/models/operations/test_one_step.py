"""Models that take a batch apart, image by image, and put it together again."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import las_sj


def by_lists(x: Tensor) -> Tensor:
    """Parts of other shapes, with a constant put to each, as LLaVA-NeXT packs its images."""
    parts = [nn.functional.pad(part.flatten(0, 1), (0, 0, 0, 1)) + 1.0 for part in x.split([1] * len(x))]
    return torch.cat(parts).unflatten(0, (len(x), -1))


def by_entries(x: Tensor) -> Tensor:
    return torch.stack([entry.flip(0) for entry in x])


def by_index(x: Tensor) -> Tensor:
    return torch.cat([x[row].unsqueeze(0) * 2 for row in range(len(x))])


def by_slices(x: Tensor) -> Tensor:
    return torch.cat([x[row : row + 1, :3] for row in range(len(x))])


def by_rows(x: Tensor) -> Tensor:
    """All rows in one dimension, as packed images lie, of the same length each."""
    return torch.stack(x.flatten(0, 1).split(x.shape[1])).transpose(1, 2).contiguous().transpose(1, 2)


def by_neurons(x: Tensor) -> Tensor:
    return torch.stack([torch.tanh(entry) * entry for entry in x])


def by_decisions(x: Tensor) -> Tensor:
    return torch.stack([entry * (entry > 0) + entry.topk(8, -1).values for entry in x])


def by_norms(x: Tensor) -> Tensor:
    """Of patches in one row, as mergers of packed images normalize them."""
    rows = x.flatten(0, 1).split([x.shape[1]] * len(x))
    return torch.cat([nn.functional.layer_norm(row, row.shape[-1:]) for row in rows]).unflatten(0, (len(x), -1))


def by_convolutions(x: Tensor) -> Tensor:
    kernel = torch.linspace(-1, 1, 8 * 8 * 9).view(8, 8, 3, 3) / 4
    images = [row.T.reshape(1, 8, 2, 2) for row in x.unbind(0)]
    return torch.cat([nn.functional.conv2d(image, kernel, padding=1) for image in images]).flatten(2).mT


def by_attention(x: Tensor) -> Tensor:
    entries = [x[row : row + 1].unflatten(-1, (2, 4)).transpose(1, 2) for row in range(len(x))]
    outputs = [nn.functional.scaled_dot_product_attention(entry, entry, entry) for entry in entries]
    return torch.cat(outputs).transpose(1, 2).flatten(2)


def by_parts_and_constants(x: Tensor) -> Tensor:
    """A token before each image, as packed towers have it."""
    token = torch.ones(1, 8)
    parts = [part for row in x.flatten(0, 1).split([x.shape[1]] * len(x)) for part in (token, row)]
    return torch.cat(parts).unflatten(0, (len(x), -1))


def by_products(x: Tensor) -> Tensor:
    return torch.stack([entry @ entry.T @ entry for entry in x])


def by_writing(x: Tensor) -> Tensor:
    """In place, into a tensor for all."""
    output = torch.zeros_like(x)
    for row, entry in enumerate(x):
        output[row] = nn.functional.gelu(entry).mul_(2.0)
    return output


_OF_NEURONS = (by_neurons, by_decisions, by_norms, by_convolutions, by_attention, by_products, by_writing)
WAYS = {
    way.__name__: way
    for way in (by_lists, by_entries, by_index, by_slices, by_rows, by_parts_and_constants, *_OF_NEURONS)
}


class Apart(nn.Module):
    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)
        self.way = way

    def forward(self, hidden_states: Tensor) -> Tensor:
        output: Tensor = self.second(torch.relu(self.way(self.first(hidden_states))))
        return output


def batch(seed: int) -> dict[str, Tensor]:
    return {"hidden_states": torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))}


@pytest.mark.parametrize("name", list(WAYS))
@torch.no_grad()
def test_parts_are_put_together_again(name: str) -> None:
    ann = Apart(WAYS[name]).eval()
    snn = las_sj.convert(copy.deepcopy(ann), None, [batch(1), batch(2)])
    expected = ann(**batch(1))
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        difference = (snn(**batch(1)) - expected).norm() / expected.norm()
        assert 0 < difference < 1e-3, execution


def _one_way_and_another(x: Tensor) -> Tensor:
    return torch.stack([torch.relu(entry) if row < 2 else torch.tanh(entry) for row, entry in enumerate(x)])


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (lambda x: torch.stack([*x.unbind(0)][::-1]), "stack of parts that are not all there, or not in the order"),
        (lambda x: torch.cat(x.split([1] * (len(x) - 1) + [1])[:-1]), "cat of parts that are not all there"),
        (lambda x: x[0] + x[-1], "no spiking form of add of parts of several time steps"),
        (
            lambda x: torch.stack([torch.tanh(entry) for entry in [*x][::-1]]),
            "tanh of parts .* that take different ways",
        ),
        (_one_way_and_another, "tanh of parts of the batch that take different ways"),
        (
            lambda x: torch.stack([entry * (entry @ entry[0])[:, None] for entry in x]),
            "that have no dimension in common",
        ),
    ],
    ids=["order", "some", "across", "backwards", "ways", "no batch"],
)
def test_what_needs_the_whole_batch_is_refused(way: Callable[[Tensor], Tensor], why: str) -> None:
    ann = Apart(way).eval()
    with pytest.raises(las_sj.UnsupportedModelError, match=why):
        las_sj.convert(ann, None, [batch(1)])
    assert type(ann) is Apart
