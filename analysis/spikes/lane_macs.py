"""Multiply-accumulates of a network of rate codes, whose parts between neurons run once in each lane, by module."""

import threading
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from las_sj.models import execution_of
from las_sj.models.mac_counter import mac_counter, macs_of
from las_sj.neurons import watching
from las_sj.neurons.counts import add_safely


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
        self._names = {module: name for name, module in model.named_modules()}
        self.modules: dict[str, ModuleMacs] = {}
        self._handles: list[Any] = []
        self._thread = threading.local()

    def attach(self) -> None:
        """Begin to count."""
        # Hooks of layers themselves would go with their copies, and have neurons keep their potentials.
        self._handles.append(register_module_forward_pre_hook(self._enter))
        self._handles.append(register_module_forward_hook(self._leave, always_call=True))
        for module in self._names:
            if module is self._model or isinstance(module, PreTrainedModel):
                self._handles.append(module.register_forward_pre_hook(self._begin))
                self._handles.append(module.register_forward_hook(self._end, always_call=True))

    def detach(self) -> None:
        """End counting."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stop()  # of a call that was interrupted

    def _stop(self) -> None:
        run = self._run
        if run is not None:
            run.counter.__exit__(None, None, None)
            self._thread.run = None

    @property
    def _run(self) -> _Run | None:
        """The call that is under way in this thread."""
        run: _Run | None = getattr(self._thread, "run", None)
        return run

    def _begin(self, module: nn.Module, args: Any) -> None:
        """A call of the model begins, or of a model inside of it."""
        is_temporal = execution_of(self._model).name == "temporal"
        if self._run is None and is_temporal and not watching.in_backward():
            self._thread.run = _Run(mac_counter())
            self._thread.run.counter.__enter__()
            self._enter(module, args)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """Such a call ends; not in `_leave`, since torch's counter removes hooks of its own."""
        run = self._run
        if run is not None and not run.frames:
            self._stop()

    def _enter(self, module: nn.Module, args: Any) -> None:
        run = self._run
        if run is not None and module in self._names:
            run.frames.append(_Frame(self._names[module], macs_of(run.counter)))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        run = self._run
        if run is None or module not in self._names:
            return
        frame = run.frames.pop()
        all_of_it = macs_of(run.counter) - frame.before
        own = all_of_it - frame.inside
        if own:
            add_safely(self.modules.setdefault(frame.name, ModuleMacs()), "macs", own)
        if run.frames:
            run.frames[-1].inside += all_of_it
