"""Spiking layers, the temporal call, and one adapter per model family."""

from las_sj.models import bert, gpt2, llama
from las_sj.models.calls import parts_of
from las_sj.models.execution import Execution
from las_sj.models.registry import FAMILIES, Family, UnsupportedModelError, register_family
from las_sj.models.spiking_layer import NeuronFactory, Site, SpikingLayer
from las_sj.models.swap import Coverage, named_sites, swap_modules

__all__ = [
    "FAMILIES",
    "Coverage",
    "Execution",
    "Family",
    "NeuronFactory",
    "Site",
    "SpikingLayer",
    "UnsupportedModelError",
    "bert",
    "gpt2",
    "llama",
    "named_sites",
    "parts_of",
    "register_family",
    "swap_modules",
]
