"""The common part of all spiking layers, and how a module becomes one."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from las_sj.models.execution import Execution
from las_sj.models.layers.foreign_hooks import ForeignForwardHook, ForeignPreHook, hook_of_values
from las_sj.models.layers.site import Site
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.reclassed import Reclassed, reclass
from las_sj.neurons import FanOut, LazyFanOut, WindowNode, watching

Constant = TypeVar("Constant", Tensor, float)


class KnowsCalls(Reclassed, nn.Module):
    """Mixin of all modules of a converted model but neurons: they know the call that is under way.

    Hooks that others register on them see values, not currents (`foreign_hooks`).

    Attributes:
        execution: of the model, shared by all its layers, so not a submodule of each.
        returns: in a temporal call: "currents" or "constant currents" (`ForeignView.outputs`).
    """

    execution: Execution
    returns: str = "currents"

    def register_forward_pre_hook(self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False) -> Any:
        """As of `nn.Module`; in a temporal call the hook sees sums over T, unless it is marked `sees_currents`."""
        hook = hook_of_values(hook, ForeignPreHook, with_kwargs)
        with_kwargs |= isinstance(hook, ForeignPreHook)
        return super().register_forward_pre_hook(hook, prepend=prepend, with_kwargs=with_kwargs)

    def register_forward_hook(
        self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> Any:
        """As of `nn.Module`; in a temporal call the hook sees sums over T, unless it is marked `sees_currents`."""
        hook = hook_of_values(hook, ForeignForwardHook, with_kwargs)
        with_kwargs |= isinstance(hook, ForeignForwardHook)
        return super().register_forward_hook(hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call)


class SpikingLayer(KnowsCalls):
    """Mixin of every spiking layer. `equip` is called once, on a module that has become one.

    Layers take and return currents [T·B, ...] in a temporal call, t-major, and accumulated values [B, ...] otherwise.
    """

    prefix = "Spiking"
    absorbs: bool = False  # whether it also does what modelling code does to the original module's output
    config_mixin: type[Reclassed] | None = None  # of the model's config, where the layer changes what it shows

    def configure(self, config: PretrainedConfig) -> None:
        """Take from the model's config what the layer needs; called before `equip`."""

    def equip(self, factory: NeuronFactory) -> None:
        """Create the layer's neurons."""

    def sites(self) -> Iterator[Site]:
        """The populations of neurons that belong to this layer and not to a layer inside it."""
        return iter(())

    def fire(self, node: WindowNode, x: Tensor, fan_out: Callable[[], FanOut] | None = None) -> Tensor:
        """Pass currents [T·B, ...], or accumulated values [B, ...] outside a temporal call, through neurons.

        Args:
            node: the neurons.
            x: what they receive.
            fan_out: tells a recorder which neurons take part, and where their spikes go; tokens without padding, and
                the site's fan-out, if None.

        Raises:
            RuntimeError: the execution was changed while a call was under way.
        """
        if self.execution.temporal:
            return self.execution.merge_time(self.emit(node, self.execution.split_time(x), fan_out))
        if node.step_mode == "m":
            return self.emit(node, x.unsqueeze(0), fan_out).sum(0)
        return self.emit(node, x, fan_out)

    def emit(self, node: WindowNode, window: Tensor, fan_out: Callable[[], FanOut] | None = None) -> Tensor:
        """Pass one window through neurons: currents [T, B, ...] in step mode "m", accumulated values [B, ...] in "s".

        Arguments and errors are those of `fire`.
        """
        if node.step_mode != "m" and self.execution.temporal:
            raise RuntimeError(
                "the execution of the model was changed while a temporal call was under way: change it between calls"
            )
        if torch.compiler.is_compiling() and node.recorder is None:
            return node(window)
        find = fan_out or partial(self._live_fan_out, window.shape[1:] if node.step_mode == "m" else window.shape)
        if node.recorder is not None:
            return node(window, fan_out=find())
        call = self.execution.call
        if call is not None and call.token_mask is not None:
            return node(window, fan_out=LazyFanOut(find, call.live_share))
        return self.told(node(window))

    def _live_fan_out(self, shape: torch.Size) -> FanOut:
        return FanOut(self.execution.live_of(shape))

    def told(self, y: Tensor) -> Tensor:
        """`y`, after a warning where it is due and no call is under way, at whose end it would come."""
        if self.execution.call is None:
            self.execution.ranges.check()
        return y

    def window(self, x: Tensor) -> Tensor:
        """Currents [T·B, ...] as [T, B, ...]; accumulated values [B, ...] as a window of one step, [1, B, ...]."""
        return self.execution.split_time(x) if self.execution.temporal else x.unsqueeze(0)

    def close_window(self, y: Tensor) -> Tensor:
        """Trains [T, B, ...] as [T·B, ...]; sums as they are."""
        return self.told(self.execution.merge_time(y) if self.execution.temporal else y)

    def per_step(self, constant: Constant) -> Constant:
        """A constant as a current: its share of one time step in a temporal call."""
        return constant / self.execution.time_steps if self.execution.temporal else constant


def become(
    module: nn.Module,
    mixin: type[SpikingLayer],
    factory: NeuronFactory,
    execution: Execution,
    config: PretrainedConfig,
) -> None:
    """Turn `module` in place into a spiking layer of the same type, parameters and name.

    Args:
        module: the module.
        mixin: what it becomes.
        factory: makes its neurons.
        execution: shared by all layers of the model.
        config: of the model.
    """
    join(module, mixin, execution)
    assert isinstance(module, SpikingLayer)
    module.configure(config)
    module.equip(factory)
    module.train(module.training)


def join(module: nn.Module, mixin: type[KnowsCalls], execution: Execution) -> None:
    """Give `module` a mixin that knows the calls of a model."""
    reclass(module, mixin)
    module.__dict__["execution"] = execution
    watching.rebind_forward(module)
    watching.change_hooks(
        module,
        before=lambda hook, with_kwargs: hook_of_values(hook, ForeignPreHook, with_kwargs),
        after=lambda hook, with_kwargs: hook_of_values(hook, ForeignForwardHook, with_kwargs),
    )
