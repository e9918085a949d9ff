"""What an optimisation knows of a network before it chooses: sensitivities, and what spikes cost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from las_sj.optimisation.budget import EnergyBudget
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.sensitivity import Massive, Sensitivities, Sensitivity

_MEMORY = "budget"  # entry of the file's metadata


@dataclass(frozen=True)
class Statistics:
    """Of one network on its calibration data.

    Attributes:
        sensitivities: of its populations.
        budget: of its energy.
    """

    sensitivities: Sensitivities
    budget: EnergyBudget

    def save(self, path: Path) -> None:
        """Write a safetensors file, which is whole once it has its name."""
        tensors: dict[str, Tensor] = {}
        for name, seen in self.sensitivities.sites.items():
            tensors |= _tensors(name, seen)
            if seen.massive is not None:
                tensors |= {f"{name}/channels": seen.massive.channels} | _tensors(f"{name}/massive", seen.massive.seen)
        content = {
            "sites": [*self.sensitivities.sites],
            "massive": [name for name, seen in self.sensitivities.sites.items() if seen.massive is not None],
            "predictions": self.sensitivities.predictions,
            "energy": self.budget.to_dict(),
        }
        partial = path.with_name(f".{path.name}")
        save_file(tensors, partial, {_MEMORY: json.dumps(content)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """The inverse of `save`.

        Raises:
            OptimisationError: the file is damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                content = json.loads(file.metadata()[_MEMORY])
                sites = {name: _sensitivity(file, name) for name in content["sites"]}
                for name in content["massive"]:
                    apart = file.get_tensor(f"{name}/channels")
                    sites[name].massive = Massive(apart, _sensitivity(file, f"{name}/massive"))
            return cls(Sensitivities(sites, content["predictions"]), EnergyBudget.from_dict(content["energy"]))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise OptimisationError(f"{path} is damaged ({error}): --restart begins anew") from None


def _tensors(name: str, seen: Sensitivity) -> dict[str, Tensor]:
    largest = torch.tensor(seen.largest, dtype=torch.float64)
    return {f"{name}/counts": seen.counts, f"{name}/weights": seen.weights, f"{name}/largest": largest}


def _sensitivity(file: Any, name: str) -> Sensitivity:
    counts, weights, largest = (file.get_tensor(f"{name}/{part}") for part in ("counts", "weights", "largest"))
    return Sensitivity(counts, weights, float(largest))
