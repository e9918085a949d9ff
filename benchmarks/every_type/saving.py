"""Saved and loaded: the same network, bit for bit?"""

import tempfile

import torch

from every_type.building import Subject
from every_type.comparing import EXECUTIONS, first_output
from every_type.weights import Model
from las_sj.models import running


@torch.no_grad()
def same_bits(snn: Model, subject: Subject) -> str:
    """Save, load, and compare outputs of both executions: "bit-identical", or where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        snn.save_pretrained(folder)
        loaded = type(subject.model).from_pretrained(folder)
    for execution in EXECUTIONS:
        outputs = []
        for model in (snn, loaded):
            with running(model, execution):
                outputs.append(first_output(model(**subject.inputs.make(1))))
        if not torch.equal(*outputs):
            return f"DIFFERS, {execution}"
    return "bit-identical"
