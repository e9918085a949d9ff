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
        try:
            loaded = type(subject.model).from_pretrained(folder)
        except Exception:
            if not _is_loaded_again(subject):
                return "nor is the ANN loaded"
            raise
    for execution in EXECUTIONS:
        outputs = []
        for model in (snn, loaded):
            with running(model, execution):
                outputs.append(first_output(model(**subject.inputs.make(1))))
        if not torch.equal(*outputs):
            return f"DIFFERS, {execution}"
    return "bit-identical"


def _is_loaded_again(subject: Subject) -> bool:
    """Whether transformers saves and loads the ANN."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subject.model.save_pretrained(folder)
            _, found = type(subject.model).from_pretrained(folder, output_loading_info=True)
        except Exception:  # of any kind: transformers cannot
            return False
    return not found["missing_keys"]
