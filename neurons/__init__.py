"""Spiking neurons of LAS as SpikingJelly stateful nodes."""

from las_sj.neurons import operators as operators  # which exported programs call by name
from las_sj.neurons.code import MAX_TIME_STEPS, MultiThresholdCode
from las_sj.neurons.coding_hg import CodingHGNode
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.fan_out import FanOut, LazyFanOut
from las_sj.neurons.fs import FSNode
from las_sj.neurons.functions import FUNCTIONS, GridFunction, OctaveFunction, Tail, register_function
from las_sj.neurons.hg import HGNode
from las_sj.neurons.mt import MTNode
from las_sj.neurons.oat import OATNode
from las_sj.neurons.record import WindowRecord
from las_sj.neurons.row_octaves import CentredOctaves, RowOctaves
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.threshold_node import ThresholdNode
from las_sj.neurons.window import WindowNode

__all__ = [
    "FUNCTIONS",
    "MAX_TIME_STEPS",
    "CentredOctaves",
    "CodingHGNode",
    "FSNode",
    "FanOut",
    "GridFunction",
    "HGNode",
    "LazyFanOut",
    "MTNode",
    "MultiThresholdCode",
    "OATNode",
    "OctaveFunction",
    "RowOctaves",
    "SeenValues",
    "Tail",
    "ThresholdNode",
    "WindowCounts",
    "WindowNode",
    "WindowRecord",
    "register_function",
]
