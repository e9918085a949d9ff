"""Spiking layers, the temporal call, and one adapter per model family."""

from las_sj.models.batch_state import RowsOfSequences
from las_sj.models.coverage import Coverage
from las_sj.models.execution import Execution, execution_of, running, set_execution
from las_sj.models.families import (
    bert,
    clip,
    distilbert,
    electra,
    gemma2,
    gpt2,
    gpt_neox,
    llama,
    llava,
    mistral,
    opt,
    phi3,
    qwen2,
    qwen2_vl,
    qwen3,
    roberta,
    vit,
)
from las_sj.models.inputs import register_input
from las_sj.models.layers.activation import register_activation
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.foreign_hooks import sees_currents
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.out_of_range import OutOfRangeWarning
from las_sj.models.registry import FAMILIES, Family, UnsupportedModelError, family_of_config, register_family
from las_sj.models.swap import named_sites, swap_modules

__all__ = [
    "FAMILIES",
    "AnalogIsland",
    "Coverage",
    "Dense",
    "Execution",
    "Family",
    "NeuronFactory",
    "OutOfRangeWarning",
    "RowsOfSequences",
    "Site",
    "SpikingLayer",
    "Synapses",
    "UnsupportedModelError",
    "bert",
    "clip",
    "distilbert",
    "electra",
    "execution_of",
    "family_of_config",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "llama",
    "llava",
    "mistral",
    "named_sites",
    "opt",
    "phi3",
    "qwen2",
    "qwen2_vl",
    "qwen3",
    "register_activation",
    "register_family",
    "register_input",
    "roberta",
    "running",
    "sees_currents",
    "set_execution",
    "spiking_form_of",
    "swap_modules",
    "vit",
]
