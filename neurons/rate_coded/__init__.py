"""Neurons whose values are means of binary spikes over T steps: QCFS, SRP, COS, FAS, and what they are trained as."""

from las_sj.neurons.rate_coded.calibrated import CalibratedIFNode
from las_sj.neurons.rate_coded.integrate_and_fire import RateCodedNode
from las_sj.neurons.rate_coded.offset_calibrated import OffsetCalibratedIFNode
from las_sj.neurons.rate_coded.qcfs import QCFSIFNode
from las_sj.neurons.rate_coded.quantizer import QCFSQuantizer
from las_sj.neurons.rate_coded.residual_potential import ResidualPotentialIFNode
from las_sj.neurons.rate_coded.windowed import QCFSWindowNode

__all__ = [
    "CalibratedIFNode",
    "OffsetCalibratedIFNode",
    "QCFSIFNode",
    "QCFSQuantizer",
    "QCFSWindowNode",
    "RateCodedNode",
    "ResidualPotentialIFNode",
]
