"""Converted in bf16: is the network further from the ANN in fp32 than the ANN in bf16 is?"""

import copy

import torch
from torch import Tensor

import las_sj
from every_type.building import Subject
from every_type.comparing import difference, first_output, with_floats_of
from every_type.weights import Model
from las_sj.models import running

_WORST = 1.5  # times the ANN's own error


@torch.no_grad()
def error_in_half_precision(snn: Model, subject: Subject) -> str:
    """The error of the accumulated execution in bf16, as a multiple of the ANN's own."""
    batch, exact = subject.inputs.make(1), first_output(subject.model(**subject.inputs.make(1)))
    ann = copy.deepcopy(subject.model).to(torch.bfloat16)
    batches = [with_floats_of(subject.inputs.make(seed), torch.bfloat16) for seed in (1, 2)]

    def error_of(model: Model) -> float:
        output: Tensor = first_output(model(**with_floats_of(batch, torch.bfloat16)))
        return difference(output, exact)

    try:
        own = error_of(ann)
    except Exception as error:  # whatever keeps the ANN from it
        return f"the ANN does not run ({type(error).__name__})"
    network = las_sj.convert(ann, None, batches)
    with running(network, "accumulated"):
        ratio = error_of(network) / own
    return f"{ratio:.2f}" if ratio < _WORST else f"TOO LARGE: {ratio:.2f}"
