"""Lossless conversion of pre-trained transformers into spiking neural networks.

    import las_sj
    model = las_sj.convert(model, las_sj.LASConfig(time_steps=16), calibration=batches)

Importing this package also teaches transformers to load converted models. `las_sj.neurons`, `las_sj.models` and
`las_sj.analysis` are there after it too; the last, which draws, is imported when it is first asked for, and with
`optimize`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from las_sj.checkpoint.quantizer import LASQuantizationConfig, LASQuantizer
from las_sj.config import LASConfig
from las_sj.conversion.calibration import Calibration, CalibrationError
from las_sj.conversion.convert import convert
from las_sj.conversion.structure import StructureError
from las_sj.fas_config import FASConfig
from las_sj.models import OutOfRangeWarning, UnsupportedModelError, set_execution
from las_sj.optimisation.errors import OptimisationError

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "CalibrationError",
    "FASConfig",
    "LASConfig",
    "LASQuantizationConfig",
    "LASQuantizer",
    "Optimisation",
    "OptimisationError",
    "OutOfRangeWarning",
    "StructureError",
    "UnsupportedModelError",
    "convert",
    "optimize",
    "set_execution",
]

_PACKAGES = ("analysis", "models", "neurons")
_LATER = {"optimize": "optimise", "Optimisation": "result"}  # which count spikes, and import what draws them

if TYPE_CHECKING:
    from las_sj import analysis, models, neurons  # noqa: F401
    from las_sj.optimisation.optimise import optimize
    from las_sj.optimisation.result import Optimisation
else:

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return import_module(f"las_sj.{name}")
        if name in _LATER:
            return getattr(import_module(f"las_sj.optimisation.{_LATER[name]}"), name)
        raise AttributeError(f"module 'las_sj' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_LATER})
