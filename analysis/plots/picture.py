"""The figures that plots return."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows as the last line of a cell, whichever backend matplotlib has there."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()
