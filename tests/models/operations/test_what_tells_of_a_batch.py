"""Arguments that tell of each image or sequence are there for each time step."""

import copy

import torch
from torch import Tensor, nn

import las_sj


class Tower(nn.Module):
    """Packed images of the sizes that it is told, and a number for each sequence."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, hidden_states: Tensor, image_merge_sizes: Tensor, timestep: Tensor) -> Tensor:
        rows = self.first(hidden_states).flatten(0, 1).split((image_merge_sizes**2).tolist())
        merged = torch.stack([torch.relu(row).mean(0) for row in rows])
        output: Tensor = self.second(merged + torch.sin(timestep)[:, None])
        return output


def batch(seed: int) -> dict[str, Tensor]:
    values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(seed))
    return {
        "hidden_states": values,
        "image_merge_sizes": torch.tensor([2, 2]),
        "timestep": torch.tensor([0.25, 0.75]),
    }


@torch.no_grad()
def test_sizes_of_images_and_numbers_of_sequences() -> None:
    ann = Tower().eval()
    snn = las_sj.convert(copy.deepcopy(ann), None, [batch(1), batch(2)])
    expected = ann(**batch(1))
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        difference = (snn(**batch(1)) - expected).norm() / expected.norm()
        assert 0 < difference < 1e-3, execution
