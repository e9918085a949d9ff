"""Fourier transforms are products with constant weights: spikes go in, along several dimensions at once too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.analysis import audit

TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "one": lambda x: torch.fft.fft(x, dim=-1).real,
    "fftn": lambda x: torch.fft.fftn(x, dim=(1, 2)).real,
    "fft2": lambda x: torch.fft.fft2(x, norm="ortho").real,
    "filled up": lambda x: torch.fft.fft2(x, s=(8, 4)).real,
}


class Mixes(nn.Module):
    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.transform, self.norm = transform, nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(self.norm(x))


@torch.no_grad()
@pytest.mark.parametrize("name", TRANSFORMS)
def test_spikes_go_in(name: str) -> None:
    torch.manual_seed(0)
    ann, batch = Mixes(TRANSFORMS[name]), {"x": torch.randn(2, 5, 6)}
    snn, expected = las_sj.convert(ann, calibration=[batch]), Mixes(TRANSFORMS[name])(**batch)
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        torch.testing.assert_close(snn(**batch), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
    assert audit(snn, batch).fully_spike_driven
