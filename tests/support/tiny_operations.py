"""Tiny models of many kinds, converted by operations, for tests of what is seen of them."""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from every_type.building import build
from every_type.mappings import Entry, entries_of
from torch import nn

import las_sj
from las_sj.analysis import Audit, SpikeMonitor, audit
from las_sj.models import running

T = 4
MAPPINGS = {  # of the kinds of models that tests name
    "olmo2": "causal-lm",
    "mixtral": "causal-lm",
    "mamba": "causal-lm",
    "t5": "seq2seq-lm",
    "whisper": "speech-seq2seq",
    "resnet": "image-classification",
    "swin": "image-classification",
}
KINDS = tuple(MAPPINGS)


@dataclass(frozen=True)
class Subject:
    """A model before and after.

    Args:
        ann: with attention as plain matrix products.
        snn: of T = 4 steps.
        batch: keyword arguments of a call without padding.
        kind: of `KINDS`.
    """

    ann: Any
    snn: Any
    batch: dict[str, Any]
    kind: str


@cache
def converted(kind: str) -> Subject:
    """The converted model of a kind; it is shared, so that tests leave it as it is."""
    (entry,) = (entry for entry in entries_of([MAPPINGS[kind]], [kind]) if isinstance(entry, Entry))
    subject = build(entry)
    torch.manual_seed(0)
    settings = las_sj.LASConfig(time_steps=T, by_operations=True)
    snn = las_sj.convert(copy.deepcopy(subject.model), settings, [subject.inputs.make(seed) for seed in (1, 2)])
    # PyTorch's counter knows neither this processor's fused attention nor its grouped experts.
    subject.model.set_attn_implementation("eager")
    if hasattr(subject.model, "set_experts_implementation"):
        subject.model.set_experts_implementation("batched_mm")
    return Subject(subject.model, snn, subject.inputs.make(1), kind)


@cache
def audited(kind: str) -> Audit:
    """The audit of the converted model of a kind."""
    subject = converted(kind)
    return audit(subject.snn, subject.batch)


@cache
def monitored(kind: str, execution: str) -> SpikeMonitor:
    """What a monitor saw of a call of the converted model of a kind."""
    subject = converted(kind)
    return run_monitored(subject.snn, execution, subject.batch)


@torch.no_grad()
def run_monitored(model: nn.Module, execution: str, batch: dict[str, Any]) -> SpikeMonitor:
    """What a monitor sees of a call of a converted model."""
    with running(model, execution), SpikeMonitor(model, keep_trains=8) as monitor:
        model(**batch)
    return monitor
