"""Multiply-accumulates of a network of rate codes, whose parts between neurons run once in each lane, by module."""

import threading
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from las_sj.models import execution_of
from las_sj.models.mac_counter import mac_counter, macs_of
from las_sj.neurons import watching
from las_sj.neurons.counts import add_safely
from las_sj.neurons.rate_coded import RateCodedNode


@dataclass(eq=False)
class ModuleMacs:
    """What a module runs itself, without the modules that it calls; in all lanes, padding among them.

    Attributes:
        macs: multiply-accumulates.
    """

    macs: int = 0


@dataclass
class _Frame:
    """A module that runs: its name, what was counted before it, and what the modules that it called have run."""

    name: str
    before: int
    inside: int = 0


@dataclass
class _Run:
    """A call that is under way in one thread."""

    counter: FlopCounterMode
    frames: list[_Frame] = field(default_factory=list)


class LaneMacs:
    """Counts matrix products, convolutions and attention of temporal calls, while it is attached.

    Args:
        model: a network of rate codes.

    Attributes:
        modules: counts by the names of modules that have run some.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {module: name for name, module in model.named_modules() if not isinstance(module, RateCodedNode)}
        self.modules: dict[str, ModuleMacs] = {}
        self._handles: list[Any] = []
        self._thread = threading.local()

    def attach(self) -> None:
        """Begin to count."""
        for module in self._names:  # neurons keep potentials where hooks may read them
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def detach(self) -> None:
        """End counting."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, module: nn.Module, args: Any) -> None:
        run: _Run | None = getattr(self._thread, "run", None)
        if run is None:
            if not self._begins_call(module):
                return
            run = self._thread.run = _Run(mac_counter())
            run.counter.__enter__()
        run.frames.append(_Frame(self._names[module], macs_of(run.counter)))

    def _begins_call(self, module: nn.Module) -> bool:
        """Whether a temporal call begins: of the model, or of one inside of it."""
        is_door = module is self._model or isinstance(module, PreTrainedModel)
        return is_door and execution_of(self._model).name == "temporal" and not watching.in_backward()

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        run: _Run | None = getattr(self._thread, "run", None)
        if run is None:
            return
        frame = run.frames.pop()
        all_of_it = macs_of(run.counter) - frame.before
        own = all_of_it - frame.inside
        if own:
            add_safely(self.modules.setdefault(frame.name, ModuleMacs()), "macs", own)
        if run.frames:
            run.frames[-1].inside += all_of_it
        else:
            run.counter.__exit__(None, None, None)
            self._thread.run = None
