"""Place a converted model on a chip, run it, and work out what the chip would need."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor, audit, energy_report
from las_sj.analysis.energies.energy import EnergyReport
from las_sj.checkpoint.placement import input_device
from las_sj.conversion.quality import Quality, compare
from las_sj.data.batches import Batch, is_of_text, shortened, to_device
from las_sj.extras import require_extra
from las_sj.hardware.chip import Chip
from las_sj.hardware.chip_file import installed_chip
from las_sj.hardware.closed_form import COMPONENTS, ClosedForm, closed_form, of_loads, total_of
from las_sj.hardware.connections import connections_of
from las_sj.hardware.core_loads import CoreLoads
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.errors import ChipError, PlacementError
from las_sj.hardware.estimate import Counts, Loads
from las_sj.hardware.fan_outs import FanOuts
from las_sj.hardware.placement import Placement
from las_sj.hardware.placer import place
from las_sj.hardware.populations import needs_of, weights_of
from las_sj.hardware.quantised_weights import with_weight_bits
from las_sj.hardware.replay import TIMINGS, Replay, replay
from las_sj.hardware.routes import currents_of, routes_of
from las_sj.hardware.traffic import Traffic, count_traffic
from las_sj.models import execution_of, named_sites, running
from las_sj.neurons import ThresholdNode

AUDITED = 16  # tokens
SHOWN_STEPS = 1024  # whose traffic and time are kept for a picture
ENGINES = ("closed", "sanafe")
RANGES = {"context": (1, 10**7), "weight_bits": (2, 32), "cores_per_layer": (1, 10**6), "chips": (1, 10**6)}


@dataclass
class Steps:
    """Time, energy and traffic of all steps, added up call by call.

    Attributes:
        count: steps.
        seconds, longest: of all of them, and of the longest.
        slowest: how many steps wait for which core.
        energy_pj: by component; None where a cost is not published.
        events, messages, hops: of all steps.
        shown_seconds, shown_messages: of the first steps.
    """

    count: int = 0
    seconds: float | None = 0.0
    longest: float = 0.0
    slowest: Counter[int] = field(default_factory=Counter)
    energy_pj: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 0.0))
    events: float = 0.0
    messages: float = 0.0
    hops: float = 0.0
    shown_seconds: list[float] = field(default_factory=list)
    shown_messages: list[float] = field(default_factory=list)

    def add(self, loads: CoreLoads, costs: EventCosts) -> None:
        """The steps of one call."""
        found = of_loads(loads, costs)
        self.count += len(loads.events)
        room = SHOWN_STEPS - len(self.shown_messages)
        for name, value in found.energy_pj.items():
            before = self.energy_pj[name]
            self.energy_pj[name] = None if value is None or before is None else before + value
        self.events += float(loads.events.sum())
        self.messages += float(loads.messages_out.sum())
        self.hops += loads.hops
        self.shown_messages += loads.messages_out.sum(1)[:room].tolist()
        if found.step_seconds is None or found.slowest is None:
            self.seconds = None
            return
        self.seconds = (self.seconds or 0.0) + float(found.step_seconds.sum())
        self.longest = max(self.longest, float(found.step_seconds.max()))
        self.slowest.update(found.slowest.tolist())
        self.shown_seconds += found.step_seconds[:room].tolist()

    @property
    def total_pj(self) -> float | None:
        """Energy of all components; None where one of them is not published."""
        return total_of(self.energy_pj)

    @property
    def mean_seconds(self) -> float | None:
        """Of a step; None where a time is not published."""
        return None if self.seconds is None or not self.count else self.seconds / self.count


@dataclass(frozen=True)
class Deployment:
    """What a chip would need.

    Attributes:
        chip: with its limits and costs.
        placement: where everything lies.
        traffic: messages, and spikes by site.
        steps: time and energy of all steps, in closed form.
        messages: that each population and each layer's columns sent, by name: one for each core that they go to.
        payload_pj: of the synapses, if each bit that a spike carries cost what a binary spike does; None where nobody
            publishes that.
        stages: populations on the longest way from input to output.
        latency_steps: T for each stage; of rate codes, those that the input is presented.
        energy: in the three accountings that know no chip.
        context: tokens that attention reaches back to.
        weight_bits: of a weight on the chip.
        all_synapses: weights of all layers of the model, those among them that no spikes come to.
        payload_needed: bits that a spike carries where levels are most.
        unknown: sites whose spikes come to weights of which nobody knows how many there are.
        quality: of the same network with such weights, beside its own; None where it was not measured.
        weights: energy and time of the layers of weights alone, in closed form; None where they were not replayed.
        replay: what SANA-FE made of them; None likewise.
    """

    chip: Chip
    placement: Placement
    traffic: Traffic
    steps: Steps
    messages: dict[str, float]
    payload_pj: float | None
    stages: int
    latency_steps: int
    energy: EnergyReport
    context: int
    weight_bits: int
    all_synapses: int
    payload_needed: int
    unknown: tuple[str, ...] = ()
    quality: Quality | None = None
    weights: ClosedForm | None = None
    replay: Replay | None = None

    @property
    def latency_seconds(self) -> float | None:
        """Of one token through all stages, where a step takes what it takes with all stages at work."""
        mean = self.steps.mean_seconds
        return None if mean is None else mean * self.latency_steps

    @property
    def tokens_per_second(self) -> tuple[float, float] | None:
        """One token after the other (generating), and in a pipeline, where one comes every T steps."""
        mean, latency = self.steps.mean_seconds, self.latency_seconds
        return None if not mean or not latency else (1 / latency, 1 / (mean * self.traffic.time_steps))


@dataclass(frozen=True)
class Options:
    """How a network is placed and what is worked out.

    Args:
        context: L, tokens that attention reaches back to; None: as many as the first sequence has.
        weight_bits: of a weight on the chip.
        cores_per_layer: on how many cores each layer lies at least.
        chips: how many there are.
        engine: "closed", or "sanafe" to replay the layers of weights too.
        timing: of SANA-FE, "simple" or "detailed".

    Raises:
        ValueError: an option is out of its range.
    """

    context: int | None = None
    weight_bits: int = 8
    cores_per_layer: int = 1
    chips: int = 1
    engine: str = "closed"
    timing: str = "detailed"

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {value}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.timing not in TIMINGS:
            raise ValueError(f"timing must be one of {', '.join(TIMINGS)}, got {self.timing!r}")


@torch.no_grad()
def deploy(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    chip: Chip | str = "loihi",
    options: Options | None = None,
    evaluation: Sequence[Batch] | None = None,
) -> Deployment:
    """Work out what a chip would need to run a converted model.

    Weights and neurons are placed, then the model runs in time on `batches`, and messages are counted by core and step.

    Args:
        model: a converted model; its execution is left as it was.
        batches: dicts of keyword arguments; the longest tells how large populations are.
        chip: or the name of a preset.
        options: None takes the defaults.
        evaluation: what weights of few bits are judged by; None: by `batches`.

    Raises:
        ChipError, PlacementError: the chip is not known, or the network does not fit.
        MissingExtraError, ReplayError: SANA-FE is asked for, and is not installed, or fails.
        ValueError: the model is not converted.
    """
    chip, options = Chip.preset(chip) if isinstance(chip, str) else chip, options or Options()
    if options.engine == "sanafe":
        require_extra("hardware", "sanafe")
        if chip.architecture is None:
            raise ChipError(f"SANA-FE knows no {chip.name}: give an architecture file of it, or --engine closed")
    batches = [to_device(batch, input_device(model)) for batch in batches]
    largest = max(batches, key=length_of)
    found = audit(model, shortened(largest, AUDITED))
    layers, populations = needs_of(model, largest, found, options.context, chip.memory_bits)
    placement = place(chip, layers, populations, options.weight_bits, options.cores_per_layer)
    check_fits(placement, options.chips)
    feeds = {name: site.feeds for name, site in named_sites(model)}
    window = execution_of(model).time_steps if found.lanes is None else 1
    running_costs = _Costs(model, chip, Loads(placement, routes_of(placement), currents_of(placement), window))
    traffic = count_traffic(model, batches, placement, running_costs.add, keep_trains=options.engine == "sanafe")
    weights, replayed = _replayed(placement, traffic, options)
    return Deployment(
        chip,
        placement,
        traffic,
        running_costs.steps,
        running_costs.messages(traffic),
        running_costs.payload_pj,
        found.stages,
        found.latency_steps or 0,
        energy_report(traffic.monitor),
        options.context or length_of(largest),
        options.weight_bits,
        sum(layer.synapses for layer in weights_of(model)),
        max((payload_bits(site.node) for _, site in named_sites(model)), default=1),
        tuple(each.name for each in populations if not each.layers and feeds[each.name] == "weights"),
        _quality(model, evaluation or batches, options.weight_bits),
        weights,
        replayed,
    )


class _Costs:
    """Time and energy of the calls of a placed model.

    Args:
        model: the converted model.
        chip: with its costs.
        loads: of the placement.
    """

    def __init__(self, model: PreTrainedModel, chip: Chip, loads: Loads) -> None:
        self.chip, self.loads, self.steps, self.fan_outs = chip, loads, Steps(), FanOuts()
        bits = {name: payload_bits(site.node) for name, site in named_sites(model)}
        self._bits = np.array([bits[route.population] for route in loads.routes])
        self._payload_events = 0.0

    def add(self, monitor: SpikeMonitor, counts: Counts) -> None:
        """One call, whose spikes are `counts`, [slices, steps]."""
        fan_outs = self.loads.fan_outs(self.fan_outs.of_call(monitor))
        self.steps.add(self.loads.of(counts, fan_outs), self.chip.costs)
        self._payload_events += float(counts.sum(1) @ (self.loads.events_of_spikes(fan_outs) * self._bits))

    @property
    def payload_pj(self) -> float | None:
        """Energy of synapses, if each bit of a spike's payload cost what a binary spike costs."""
        cost = self.chip.costs.synaptic_event_pj
        return None if cost is None else self._payload_events * cost

    def messages(self, traffic: Traffic) -> dict[str, float]:
        """Messages that each population and layer sent, by name."""
        sent = dict.fromkeys([population.name for population in self.loads.placement.populations], 0.0)
        for route, spikes, copies in zip(self.loads.routes, traffic.messages, self.loads.copies, strict=True):
            sent[route.population] += float(spikes * copies)
        windows = self.steps.count // self.loads.window
        for current in self.loads.currents:
            sent[current.layer] = sent.get(current.layer, 0.0) + current.sums * windows
        return sent


def length_of(batch: Batch) -> int:
    """How many tokens a sequence of a batch has; 1 of what is no text."""
    return int(batch["input_ids"].shape[1]) if is_of_text(batch) else 1


def check_fits(placement: Placement, chips: int) -> None:
    """Refuse a network that needs more chips than there are.

    Raises:
        PlacementError: the message says how many are needed.
    """
    if placement.chips > chips:
        raise PlacementError(
            f"the network needs {len(placement.cores):,} cores, which are {placement.chips} chips of "
            f"{placement.chip.name} ({placement.chip.cores:,} cores each): give --chips {placement.chips}, fewer "
            "--cores-per-layer, or smaller weights (--weight-bits)"
        )


def payload_bits(node: object) -> int:
    """Bits of what a spike carries: of whole numbers n … 2n with n levels, and 1 of binary spikes."""
    levels = node.code.levels if isinstance(node, ThresholdNode) else 1
    return 1 if levels == 1 else (2 * levels).bit_length()


def _quality(model: PreTrainedModel, batches: Sequence[Batch], bits: int) -> Quality:
    """The network with weights of few bits beside itself."""
    with running(model, execution_of(model).counted_in):
        return compare(model, with_weight_bits(model, bits), batches)[0]


def _replayed(placement: Placement, traffic: Traffic, options: Options) -> tuple[ClosedForm | None, Replay | None]:
    """The layers of weights alone, in closed form and by SANA-FE."""
    if options.engine != "sanafe":
        return None, None
    assert placement.chip.architecture is not None
    connections = connections_of(placement, traffic.trains)
    if not connections:
        raise PlacementError("no spikes come to weights, so that SANA-FE has nothing to replay: --engine closed")
    mesh = placement.chip.mesh.with_cores(len(placement.cores))
    return (
        closed_form(connections, placement.chip.costs, mesh),
        replay(connections, _architecture(placement.chip.architecture), options.timing, len(placement.cores)),
    )


def _architecture(name: str | Path) -> Path:
    """An architecture file: one that was given, or one that SANA-FE brings."""
    return name if isinstance(name, Path) else installed_chip(name)
