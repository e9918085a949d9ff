"""The spikes that reach a layer, and the cores between which they travel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Cores = NDArray[np.int64]
Trains = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Connection:
    """Spikes of a population that come, through dense weights, to the neurons of a layer.

    Args:
        name: of the layer.
        fired: which of the C source neurons fired in which step, bool [steps, C].
        source_cores: numbers of the cores on which the source neurons lie, int [C].
        target_cores: numbers of the cores on which the layer's F neurons lie, int [F].

    Raises:
        ValueError: a shape or type differs, there is no step or no neuron, or a core has a negative number.
    """

    name: str
    fired: Trains
    source_cores: Cores
    target_cores: Cores

    def __post_init__(self) -> None:
        if self.fired.ndim != 2 or self.fired.dtype != bool or 0 in self.fired.shape:
            raise ValueError(
                f"{self.name}: fired must be bool [steps, C] with steps and neurons, "
                f"got {self.fired.dtype} {list(self.fired.shape)}"
            )
        for field, cores, width in (
            ("source_cores", self.source_cores, self.fired.shape[1]),
            ("target_cores", self.target_cores, None),
        ):
            if cores.ndim != 1 or not len(cores) or not np.issubdtype(cores.dtype, np.integer) or cores.min() < 0:
                raise ValueError(f"{self.name}: {field} must be a row of integers of 0 or more, one for each neuron")
            if width is not None and len(cores) != width:
                raise ValueError(f"{self.name}: {field} must have {width} entries, as fired has, got {len(cores)}")

    @property
    def steps(self) -> int:
        """How many steps the trains last."""
        return int(self.fired.shape[0])

    @property
    def spikes(self) -> int:
        """How many spikes the population sends."""
        return int(self.fired.sum())

    @property
    def synapses(self) -> int:
        """How many synapses the dense weights have, C · F."""
        return int(self.fired.shape[1]) * len(self.target_cores)

    @property
    def synaptic_events(self) -> int:
        """How often a synapse is read: each spike reads one of each of the F neurons."""
        return self.spikes * len(self.target_cores)

    @property
    def destinations(self) -> Cores:
        """The cores to which each spike sends one message, ascending."""
        return np.unique(self.target_cores)
