"""What a model keeps of its conversion by operations."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from las_sj.models.dense_operations import DenseOperations
from las_sj.models.layers.foreign_view import ForeignView
from las_sj.models.neuron_factory import NeuronFactory


@dataclass(eq=False)
class Operated:
    """What a model keeps of its conversion by operations.

    Args:
        factory: makes the neurons of operations.
        finds: whether operations that are seen for the first time get neurons; otherwise they are an error.
        decisions: functions that are taken on sums over T, by the names of the modules in which they stand.
        dense: counts operations without neurons, while somebody watches.
        continues_apart: whether generation from a cache has operations that a plain call has not.
        attributes: modules, and the names of what they hold since the latest call.
        attention: the implementation by which the model chose its attention modules: "eager", or "sdpa" for others.
        view: what hooks of others see of the call that is under way.
    """

    factory: NeuronFactory
    finds: bool = True
    decisions: dict[str, list[str]] = field(default_factory=dict)
    dense: DenseOperations | None = None
    continues_apart: bool = False
    attributes: list[tuple[nn.Module, str]] = field(default_factory=list)
    attention: str = "eager"
    view: Callable[[], ForeignView | None] = field(default=lambda: None)

    def note_decision(self, module: str, function: str) -> None:
        """Keep that a module takes a decision; once the conversion has ended, calls leave nothing here."""
        if not self.finds:
            return
        known = self.decisions.setdefault(module, [])
        if function not in known:
            known.append(function)
