"""Spiking neurons of LAS as SpikingJelly stateful nodes."""

from las_sj.neurons.code import MAX_TIME_STEPS, MultiThresholdCode
from las_sj.neurons.fs import FSNode
from las_sj.neurons.functions import FUNCTIONS
from las_sj.neurons.hg import HGNode
from las_sj.neurons.mt import MTNode
from las_sj.neurons.oat import OATNode
from las_sj.neurons.window import WindowNode

__all__ = [
    "FUNCTIONS",
    "MAX_TIME_STEPS",
    "FSNode",
    "HGNode",
    "MTNode",
    "MultiThresholdCode",
    "OATNode",
    "WindowNode",
]
