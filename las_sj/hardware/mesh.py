"""Where the cores of a chip lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Tiles of cores in a mesh, numbered column by column as SANA-FE does: tile n lies at (n div height, n mod height).

    Args:
        width: tiles from west to east.
        height: tiles from south to north.
        cores_per_tile: cores that share a router.

    Raises:
        ValueError: one of them is below 1.
    """

    width: int
    height: int
    cores_per_tile: int

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{field} of a mesh must be 1 or more, got {value}")

    @property
    def cores(self) -> int:
        """How many cores the chip has."""
        return self.width * self.height * self.cores_per_tile

    def tiles_of(self, cores: Places) -> Places:
        """Numbers of the tiles in which cores lie, of the shape of `cores`."""
        return np.asarray(cores) // self.cores_per_tile

    def hops(self, source: Places, target: Places) -> tuple[Places, Places]:
        """Steps from tile to tile between cores, east or west and north or south, broadcast over both arguments."""
        source, target = self.tiles_of(source), self.tiles_of(target)
        (x, y), (to_x, to_y) = (divmod(tiles, self.height) for tiles in (source, target))
        return np.abs(x - to_x), np.abs(y - to_y)

    def with_cores(self, cores: int) -> "Mesh":
        """The smallest mesh of about the same aspect that has so many cores; this one where it suffices."""
        mesh, height = self, self.height
        while mesh.cores < cores:
            height += 1
            mesh = Mesh(-(-height * self.width // self.height), height, self.cores_per_tile)
        return mesh
