"""What an optimisation knows of a network before it chooses: sensitivities, and what spikes cost."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from las_sj.optimisation.budget import EnergyBudget
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.sensitivity import Sensitivities, Sensitivity

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
        tensors = {}
        for name, seen in self.sensitivities.sites.items():
            tensors[f"{name}/counts"], tensors[f"{name}/weights"] = seen.counts, seen.weights
            tensors[f"{name}/largest"] = torch.tensor(seen.largest, dtype=torch.float64)
        content = {
            "sites": [*self.sensitivities.sites],
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
                names = content["sites"]
                sites = {
                    name: Sensitivity(
                        file.get_tensor(f"{name}/counts"),
                        file.get_tensor(f"{name}/weights"),
                        float(file.get_tensor(f"{name}/largest")),
                    )
                    for name in names
                }
            return cls(Sensitivities(sites, content["predictions"]), EnergyBudget.from_dict(content["energy"]))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise OptimisationError(f"{path} is damaged ({error}): --restart begins anew") from None
