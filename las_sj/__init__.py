"""Lossless conversion of pre-trained transformers into spiking neural networks.

    import las_sj
    model = las_sj.convert(model, las_sj.LASConfig(time_steps=16), calibration=batches)

Importing this package also teaches transformers to load converted models.
"""

from las_sj.checkpoint.quantizer import LASQuantizationConfig, LASQuantizer
from las_sj.config import LASConfig
from las_sj.conversion.calibration import Calibration, CalibrationError
from las_sj.conversion.convert import convert
from las_sj.conversion.structure import StructureError
from las_sj.models import UnsupportedModelError, set_execution

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "CalibrationError",
    "LASConfig",
    "LASQuantizationConfig",
    "LASQuantizer",
    "StructureError",
    "UnsupportedModelError",
    "convert",
    "set_execution",
]
