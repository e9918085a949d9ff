"""Does a monitor see every population, and spikes?"""

import torch

from every_type.building import Subject
from every_type.comparing import EXECUTIONS
from every_type.weights import Model
from las_sj.analysis import SpikeMonitor
from las_sj.conversion.continuation import continue_batch
from las_sj.models import running

_NAMED = 3  # populations


@torch.no_grad()
def populations_that_fire(snn: Model, subject: Subject) -> str:
    """How many populations there are, if each was seen in a call or in a continuation from its cache."""
    with SpikeMonitor(snn) as monitor:
        for execution in EXECUTIONS:
            with running(snn, execution):
                snn(**subject.inputs.make(1))
                _continue(snn, subject)
    unseen = [name for name, counts in monitor.sites.items() if not counts.neurons]
    if not any(counts.spikes for counts in monitor.sites.values()):
        return "no spikes"
    seen = len(monitor.sites) - len(unseen)
    if not unseen:
        return f"all {seen}"
    return f"{seen} of {len(monitor.sites)}, not {', '.join(unseen[:_NAMED])}"


def _continue(snn: Model, subject: Subject) -> None:
    if not snn.can_generate():
        return
    try:
        continue_batch(subject.model, subject.inputs.make(1))
    except Exception:  # whatever keeps the ANN from it
        return
    continue_batch(snn, subject.inputs.make(1))
