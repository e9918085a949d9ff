"""What a model keeps of its conversion by operations."""

from dataclasses import dataclass, field

from las_sj.models.neuron_factory import NeuronFactory


@dataclass(eq=False)
class Operated:
    """What a model keeps of its conversion by operations.

    Args:
        factory: makes the neurons of operations.
        finds: whether operations that are seen for the first time get neurons; otherwise they are an error.
        decisions: functions that are taken on sums over T, by the names of the modules in which they stand.
    """

    factory: NeuronFactory
    finds: bool = True
    decisions: dict[str, list[str]] = field(default_factory=dict)

    def note_decision(self, module: str, function: str) -> None:
        """Keep that a module takes a decision."""
        known = self.decisions.setdefault(module, [])
        if function not in known:
            known.append(function)
