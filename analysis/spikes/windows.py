"""What chosen neurons did in one window of a call, for pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from las_sj.analysis.labels import thin
from las_sj.models import execution_of, named_sites
from las_sj.models.tensor_parallel import refuse_parts
from las_sj.neurons import HGNode, ThresholdNode, WindowNode, WindowRecord
from las_sj.neurons.precision import single
from las_sj.neurons.rate_coded import RateCodedNode
from las_sj.neurons.record import Recorder

SHOWN_SITES = 8

Coding = WindowNode | RateCodedNode

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Window:
    """What some neurons of one token did in one window; tensors on the CPU, in single precision at least.

    Args:
        neurons: their indices in the last dimension, K of them.
        width: how many neurons that dimension has.
        potential: membrane potential before the first spike, [K].
        train: [T, K].
        outliers: which of them the outlier sub-neuron codes, bool [K].
        alpha: base thresholds of their sub-neurons, or thresholds of rate codes, [K]; NaN where they have none.
        trace: membrane potentials of rate codes after each step, [T, K], where the node stores them; else None.
    """

    neurons: list[int]
    width: int
    potential: Tensor
    train: Tensor
    outliers: Tensor
    alpha: Tensor
    trace: Tensor | None = None


class _Sampler:
    """Keeps the first window of one site: of the first sequence, the last head, the chosen token."""

    def __init__(self, site: str, neurons: Sequence[int], token: int) -> None:
        self.site = site
        self.neurons = neurons
        self.token = token
        self.window: Window | None = None

    def __call__(self, node: Coding, record: WindowRecord) -> None:
        v, emitted = record.potential, record.emitted
        if self.window is not None:
            return
        tokens, width = v.shape[-2] if v.dim() > 2 else 1, v.shape[-1]
        if not -tokens <= self.token < tokens:
            raise ValueError(f"token must lie in {-tokens} … {tokens - 1} for {self.site}, got {self.token}")
        chosen = [neuron for neuron in self.neurons if neuron < width]
        if not chosen:
            raise ValueError(f"{self.site} has {width} neurons: choose one of 0 … {width - 1}, or leave the site out")
        outliers = getattr(node, "outliers", torch.zeros_like)(v[:1]).bool()
        alpha = record.scale if record.scale is not None else v.new_tensor(torch.nan)
        alpha = node.alpha(v[:1]) if isinstance(node, ThresholdNode) else alpha
        potential, is_outlier, alpha = (self._row(x, chosen)[0] for x in (v[:1], outliers, alpha.expand_as(v[:1])))
        stored = node.v_seq if isinstance(node, RateCodedNode) else None
        trace = None if stored is None else self._row(stored[:, 0].detach(), chosen)
        self.window = Window(chosen, width, potential, self._row(emitted[:, 0], chosen), is_outlier, alpha, trace)

    def _row(self, x: Tensor, neurons: list[int]) -> Tensor:
        """Some neurons of the chosen token, [N, ..., S, C] or [N, C] to [N, K]."""
        x = x if x.dim() > 2 else x.unsqueeze(1)
        return single(x[..., self.token, :].reshape(len(x), -1, x.shape[-1])[:, -1, neurons].cpu())


def coding_nodes(model: nn.Module) -> dict[str, Coding]:
    """The nodes of `model` that code values as spikes, by name; HG neurons, which compute, are not among them."""
    return {name: site.node for name, site in named_sites(model) if not isinstance(site.node, HGNode)}


Kinds = tuple[type[nn.Module], ...]
WITH_THRESHOLDS: Kinds = (ThresholdNode, RateCodedNode)  # that pictures show


def choose_sites(model: nn.Module, sites: Sequence[str] | None, kinds: Kinds = (nn.Module,)) -> list[str]:
    """The sites to draw: those named, all ("all"), or a spread of those that feed weights (None), of all if none does.

    Args:
        model: a converted model.
        sites: names, "all" or None.
        kinds: of the neurons at sites that are not named.

    Raises:
        ValueError: there is none, or one does not exist.
    """
    available = coding_nodes(model)
    if sites is None:
        feeding = [name for name, site in named_sites(model) if site.feeds == "weights"]
        known = [name for name, node in available.items() if isinstance(node, kinds)]
        sites = thin([name for name in feeding if name in known] or known, SHOWN_SITES)
    elif sites == "all":
        sites = [name for name, node in available.items() if isinstance(node, kinds)]
    elif isinstance(sites, str):
        raise ValueError(f'sites must be a list of names, "all" or None, got {sites!r}')
    if not sites:
        raise ValueError('no site to draw: name some of las_sj.models.named_sites(model), or pass "all" or None')
    missing = [name for name in sites if name not in available]
    if missing:
        raise ValueError(
            "sites must be names from las_sj.models.named_sites(model), and not of HG neurons; "
            f"no coding neurons of that name: {', '.join(missing)}"
        )
    return list(dict.fromkeys(sites))


def threshold_nodes(model: nn.Module, sites: Sequence[str]) -> dict[str, ThresholdNode | RateCodedNode]:
    """The nodes of some coding sites, by name.

    Raises:
        ValueError: one has no thresholds.
    """
    nodes = coding_nodes(model)
    chosen: dict[str, ThresholdNode | RateCodedNode] = {}
    for site in sites:
        node = nodes[site]
        if not isinstance(node, ThresholdNode | RateCodedNode):
            raise ValueError(f"{site} is a {type(node).__name__} without base thresholds: leave it out")
        chosen[site] = node
    return chosen


def check_neurons(neurons: Sequence[int]) -> None:
    """Refuse what is not a choice of neurons.

    Raises:
        ValueError: nothing, an index below 0, or one twice.
    """
    if len(neurons) == 0 or min(neurons) < 0 or len(set(neurons)) < len(neurons):
        raise ValueError(f"neurons must be different indices of the last dimension, 0 or more, got {list(neurons)}")


def sample_windows(
    model: nn.Module,
    batch: Mapping[str, Any],
    sites: Sequence[str],
    neurons: Sequence[int],
    token: int = -1,
    required: bool = True,
) -> dict[str, Window]:
    """Run a temporal call and keep one window of each site: of the first sequence, the last head, the chosen token.

    Args:
        model: a converted model, in the temporal execution.
        batch: the call's keyword arguments.
        sites: names of coding neurons.
        neurons: indices in the last dimension; a site gives those of them that it has.
        token: index of the token; sites that have one for each sequence know 0 and −1.
        required: as of `of_reached`.

    Raises:
        ValueError: the model is not in the temporal execution, the call does not reach a site, or a site does not have
            the token or any of the neurons.
    """
    if execution_of(model).name != "temporal":
        raise ValueError('spike trains exist in the temporal execution: call las_sj.set_execution(model, "temporal")')
    check_neurons(neurons)
    samplers = {name: _Sampler(name, neurons, token) for name in sites}
    with recorders(model, samplers), torch.no_grad():
        model(**batch)
    return of_reached({name: sampler.window for name, sampler in samplers.items()}, required)


@contextmanager
def recorders(model: nn.Module, by_site: Mapping[str, Recorder]) -> Iterator[None]:
    """Within this context the nodes of some sites have these recorders instead of their own.

    Raises:
        ValueError: processes share the model, or it is a network of rate codes whose neurons do not run.
    """
    refuse_parts(model, "looking at neurons")
    execution = execution_of(model)
    if execution.lanes is not None and execution.name != "temporal":
        raise ValueError(
            'neurons of rate codes run in the temporal execution alone: call las_sj.set_execution(model, "temporal")'
        )
    nodes = coding_nodes(model)
    before = {name: nodes[name].recorder for name in by_site}
    try:
        for name, recorder in by_site.items():
            nodes[name].recorder = recorder
        yield
    finally:
        for name, previous in before.items():
            nodes[name].recorder = previous


def of_reached(seen: Mapping[str, Seen | None], required: bool) -> dict[str, Seen]:
    """What recorders saw, by site; None where a call did not reach the site.

    Args:
        seen: by site.
        required: whether each must have seen something; otherwise those that have not are left out, unless none has.

    Raises:
        ValueError: one has seen nothing.
    """
    found = {site: window for site, window in seen.items() if window is not None}
    missing = [site for site in seen if site not in found]
    if missing and (required or not found):
        raise ValueError(
            f"the call did not reach the neurons of {missing[0]}: leave the site out, or give another batch"
        )
    return found
