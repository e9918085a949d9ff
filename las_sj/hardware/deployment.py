"""Place a converted model on a chip, run it, and work out what the chip would need."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.errors import ChipError, PlacementError
from las_sj.hardware.estimate import Counts, Loads, Route, fan_outs_of, routes_of
from las_sj.hardware.placement import Placement, place
from las_sj.hardware.populations import needs_of, weights_of
from las_sj.hardware.quantised_weights import with_weight_bits
from las_sj.hardware.replay import TIMINGS, Replay, replay
from las_sj.hardware.traffic import Traffic, count_traffic
from las_sj.models import execution_of, named_sites, running
from las_sj.neurons import ThresholdNode

AUDITED = 16  # tokens
SHOWN_STEPS = 1024  # whose traffic and time are kept for a picture
ENGINES = ("closed", "sanafe")


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
    events: int = 0
    messages: int = 0
    hops: int = 0
    shown_seconds: list[float] = field(default_factory=list)
    shown_messages: list[int] = field(default_factory=list)

    def add(self, loads: Loads, costs: EventCosts, counts: Counts) -> None:
        """The steps of one call, whose messages are `counts`, [slices, steps]."""
        found = of_loads(loads.of(counts), costs)
        self.count += counts.shape[1]
        room = SHOWN_STEPS - len(self.shown_messages)
        for name, value in found.energy_pj.items():
            before = self.energy_pj[name]
            self.energy_pj[name] = None if value is None or before is None else before + value
        self.events += int(found.loads.events.sum())
        self.messages += int(found.loads.messages_out.sum())
        self.hops += found.loads.hops
        self.shown_messages += found.loads.messages_out.sum(1)[:room].tolist()
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
        payload_pj: of the synapses, if each bit that a spike carries cost what a binary spike does; None where nobody
            publishes that.
        stages: populations on the longest way from input to output.
        latency_steps: T for each stage; of rate codes, those that the input is presented.
        energy: in the three accountings that know no chip.
        context: tokens that attention reaches back to.
        weight_bits: of a weight on the chip.
        all_synapses: weights of all layers of the model, those among them that no spikes come to.
        payload_needed: bits that a spike carries where levels are most.
        quality: of the same network with such weights, beside its own; None where it was not measured.
        weights: energy and time of the layers of weights alone, in closed form; None where they were not replayed.
        replay: what SANA-FE made of them; None likewise.
    """

    chip: Chip
    placement: Placement
    traffic: Traffic
    steps: Steps
    payload_pj: float | None
    stages: int
    latency_steps: int
    energy: EnergyReport
    context: int
    weight_bits: int
    all_synapses: int
    payload_needed: int
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
        for name, least in (("context", 1), ("weight_bits", 2), ("cores_per_layer", 1), ("chips", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
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
        batches: dicts of keyword arguments; the first tells how large populations are.
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
    layers, populations = needs_of(model, batches[0], options.context, chip.memory_bits)
    placement = place(chip, layers, populations, options.weight_bits, options.cores_per_layer)
    check_fits(placement, options.chips)
    steps, loads = Steps(), LazyLoads(placement)
    traffic = count_traffic(
        model,
        batches,
        placement,
        lambda monitor, counts: steps.add(loads.given(monitor), chip.costs, counts),
        keep_trains=options.engine == "sanafe",
    )
    found = audit(model, shortened(batches[0], AUDITED))
    weights, replayed = _replayed(placement, traffic, options)
    text = is_of_text(batches[0])
    return Deployment(
        chip,
        placement,
        traffic,
        steps,
        _payload_pj(model, loads.routes, traffic, placement, chip.costs),
        found.stages,
        found.latency_steps or 0,
        energy_report(traffic.monitor),
        options.context or (batches[0]["input_ids"].shape[1] if text else 1),
        options.weight_bits,
        sum(layer.synapses for layer in weights_of(model)),
        max((payload_bits(site.node) for _, site in named_sites(model)), default=1),
        _quality(model, evaluation or batches, options.weight_bits),
        weights,
        replayed,
    )


def check_fits(placement: Placement, chips: int) -> None:
    """Refuse a network that needs more chips than there are.

    Raises:
        PlacementError: the message says how many are needed.
    """
    if placement.chips > chips:
        raise PlacementError(
            f"the network needs {len(placement.cores):,} cores, which are {placement.chips} chips of "
            f"{placement.chip.name} ({placement.chip.cores:,} cores each): give --chips {placement.chips}, or smaller "
            f"weights (--weight-bits)"
        )


class LazyLoads:
    """Loads of a placement whose fan-outs are known once something was counted."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.routes: list[Route] = []

    def given(self, monitor: SpikeMonitor) -> Loads:
        """Loads by the fan-outs that were counted so far."""
        self.routes = routes_of(self.placement, fan_outs_of(monitor))
        return Loads(self.placement, self.routes)


def _payload_pj(
    model: PreTrainedModel, routes: Sequence[Route], traffic: Traffic, placement: Placement, costs: EventCosts
) -> float | None:
    """Energy of synapses, if each bit of a spike's payload cost what a binary spike costs."""
    if costs.synaptic_event_pj is None:
        return None
    bits = {name: payload_bits(site.node) for name, site in named_sites(model)}
    events = sum(
        messages * sum(route.events) * bits[piece.population]
        for messages, route, piece in zip(traffic.messages.tolist(), routes, placement.neurons, strict=True)
    )
    return float(events * costs.synaptic_event_pj)


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
