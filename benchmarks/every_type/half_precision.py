"""Converted in bf16: is the network further from the ANN in fp32 than the ANN in bf16 is?"""

import copy
import math

import torch

import las_sj
from every_type.building import Subject
from every_type.comparing import difference, first_output, with_floats_of
from every_type.weights import Model
from las_sj.models import running

_WORST = 1.5  # times the ANN's own error
_BATCHES = range(1, 9)  # of one alone, a classifier's few outputs are off by chance


@torch.no_grad()
def error_in_half_precision(snn: Model, subject: Subject) -> str:
    """The error of the accumulated execution in bf16, as a multiple of the ANN's own, over `_BATCHES`."""
    ann = copy.deepcopy(subject.model).to(torch.bfloat16)
    try:
        own = _error_of(ann, subject)
    except Exception as error:  # whatever keeps the ANN from it
        return f"the ANN does not run ({type(error).__name__})"
    network = las_sj.convert(ann, None, [with_floats_of(subject.inputs.make(seed), torch.bfloat16) for seed in (1, 2)])
    with running(network, "accumulated"):
        ratio = _error_of(network, subject) / own
    return f"{ratio:.2f}" if ratio < _WORST else f"TOO LARGE: {ratio:.2f}"


def _error_of(model: Model, subject: Subject) -> float:
    """The root of the mean square of errors to the ANN in fp32."""
    squares = []
    for seed in _BATCHES:
        exact = first_output(subject.model(**subject.inputs.make(seed)))
        output = first_output(model(**with_floats_of(subject.inputs.make(seed), torch.bfloat16)))
        squares.append(difference(output, exact) ** 2)
    return math.sqrt(sum(squares) / len(squares))
