"""What a chip would need, in words, tables and JSON."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from las_sj.analysis.tables import Cell, Table, markdown_table
from las_sj.data.output_folder import MADE_BY_DEPLOY
from las_sj.hardware.chip import NOT_PUBLISHED
from las_sj.hardware.deployment import Deployment
from las_sj.hardware.placement import FITS

NOT_IN_IT = (
    "leakage and static power",
    "input and output, and the host",
    "links between chips",
    "learning",
    "sums of rows that lie on several cores, which have to be sent on",
)
PRODUCTS = {
    True: "it can be programmed",
    False: "it has none: assumed",
    None: f"whether it has them is {NOT_PUBLISHED}: assumed",
}
SHOWN = 5  # layers between which there is most traffic
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class HardwareReport:
    """A deployment, for people and programs.

    Attributes:
        name: of the model.
        source: where the data came from.
        found: what was worked out.
    """

    name: str
    source: str
    found: Deployment

    def summary_rows(self) -> Rows:
        """One screen: does it fit, what does a token take, how long does it last, what does the chip lack."""
        return [*self._fit_rows(), *self._token_rows(), *self._time_rows(), *self._energy_rows(), *self._limit_rows()]

    def _fit_rows(self) -> Rows:
        placement, chip = self.found.placement, self.found.chip
        cores = len(placement.cores)
        share = (
            f"{cores:,} of {chip.cores:,} cores"
            if placement.chips == 1
            else f"{cores:,} cores, {placement.chips} chips"
        )
        binding = Counter(limit for limit in placement.binding.values() if limit != FITS)
        limits = ", ".join(f"{limit} ({count})" for limit, count in binding.most_common()) or "none"
        neurons = sum(population.neurons for population in placement.populations)
        return [
            ("chip", f"{chip.name}, {share}"),
            ("cores that hold weights", f"{placement.weight_cores:,}"),
            ("limits that bind, and how many layers and populations", limits),
            ("synapses", f"{sum(layer.synapses for layer in placement.layers):,} of {self.found.weight_bits} bits"),
            ("neurons of a token", f"{neurons:,}, with {self.found.context} tokens of context"),
        ]

    def _token_rows(self) -> Rows:
        found, tokens = self.found, max(self.found.traffic.tokens, 1)
        spikes = sum(counts.spikes for counts in found.traffic.monitor.sites.values())
        biases = int(found.traffic.messages.sum()) - spikes
        return [
            ("data", f"{self.source}: {found.traffic.tokens:,} tokens"),
            ("spikes per token", f"{spikes / tokens:,.0f}, and {biases / tokens:,.0f} biases of HG neurons"),
            ("messages per token", f"{found.steps.messages / tokens:,.0f}, {found.steps.hops / tokens:,.0f} hops"),
            ("synaptic events per token", f"{found.steps.events / tokens:,.0f}"),
            ("most traffic", "; ".join(f"{name} {100 * share:.0f} %" for name, share in self.busiest())),
        ]

    def _time_rows(self) -> Rows:
        found, steps = self.found, self.found.steps
        mean, rates = steps.mean_seconds, found.tokens_per_second
        latency = f"{found.latency_steps:,} steps ({found.stages} stages, T = {found.traffic.time_steps})"
        if mean is None or rates is None or found.latency_seconds is None:
            return [
                ("time of a step", NOT_PUBLISHED),
                ("latency of a token", latency),
                ("tokens per second", NOT_PUBLISHED),
            ]
        core, count = steps.slowest.most_common(1)[0]
        waits = f"{100 * count / steps.count:.0f} % of steps wait for core {core} ({', '.join(self.on_core(core))})"
        return [
            ("time of a step", f"{1e6 * mean:.2f} µs mean, {1e6 * steps.longest:.2f} µs longest; {waits}"),
            ("latency of a token", f"{latency}, {1e3 * found.latency_seconds:.2f} ms"),
            ("tokens per second", f"{rates[0]:,.1f} one after the other (generating), {rates[1]:,.0f} in a pipeline"),
        ]

    def _energy_rows(self) -> Rows:
        found, tokens = self.found, max(self.found.traffic.tokens, 1)
        total = found.steps.total_pj
        parts = ", ".join(f"{name} {_micro(value, tokens)}" for name, value in found.steps.energy_pj.items())
        rows = [("energy per token on the chip", f"{_micro(total, tokens)} ({parts})")]
        if found.payload_pj is not None:
            rows.append(("its synapses, if each bit of a payload costs", _micro(found.payload_pj, tokens)))
        for accounting in found.energy.accountings:
            pair = [_micro(found.energy.total_pj(accounting, side), tokens) for side in ("ann", "snn")]
            rows.append((f"energy without a chip, {accounting.replace('_', '-')}", f"ANN {pair[0]}, SNN {pair[1]}"))
        return rows

    def _limit_rows(self) -> Rows:
        found, chip = self.found, self.found.chip
        rows = [("spikes on this chip", _payloads(found))]
        rows.append(("products of two trains", PRODUCTS[chip.has_products]))
        if found.quality is not None:
            rows.append((f"weights of {found.weight_bits} bits", f"{_lost(found)}{_too_many_bits(found)}"))
        placed = sum(layer.synapses for layer in found.placement.layers)
        if placed < found.all_synapses:
            share = 100 * (1 - placed / found.all_synapses)
            rows.append(("not placed", f"{share:.0f} % of the weights, to which no population of their own fires"))
        if found.unknown:
            rows.append(("weights of unknown size", f"not placed: those that {', '.join(found.unknown)} fires at"))
        if found.placement.partial_sums:
            rows.append(("columns split by rows", f"{found.placement.partial_sums:,}, whose sums must be sent on"))
        rows.append(("not in it", "; ".join(NOT_IN_IT)))
        return rows

    def busiest(self) -> list[tuple[str, float]]:
        """Populations and layers that send most messages, with their share."""
        found = self.found.messages
        total = max(sum(found.values()), 1)
        return [(name, count / total) for name, count in Counter(found).most_common(SHOWN)]

    def on_core(self, number: int) -> list[str]:
        """Names of layers and populations on a core."""
        placement = self.found.placement
        names = [piece.layer for piece in placement.weights if piece.core == number]
        return list(dict.fromkeys(names or [each.population for each in placement.neurons if each.core == number]))

    def replay_table(self) -> Table | None:
        """Layers of weights in SANA-FE beside the closed form; None where they were not replayed."""
        replayed, form = self.found.replay, self.found.weights
        if replayed is None or form is None:
            return None
        tokens, steps = max(self.found.traffic.tokens, 1), max(len(replayed.step_seconds), 1)
        events = sum(layer.synaptic_events for layer in replayed.layers)
        rows: list[list[Cell]] = [
            ["synaptic events", f"{events:,}", f"{int(form.loads.events.sum()):,}"],
            [
                "messages",
                f"{sum(each.messages for each in replayed.layers):,}",
                f"{int(form.loads.messages_out.sum()):,}",
            ],
            ["hops", f"{sum(layer.hops for layer in replayed.layers):,}", f"{form.loads.hops:,}"],
            [
                "energy per token",
                NOT_PUBLISHED if form.total_pj is None else _micro(replayed.total_pj, tokens),
                _micro(form.total_pj, tokens),
            ],
            [
                "time of a step",
                NOT_PUBLISHED
                if form.seconds is None
                else f"{1e6 * replayed.seconds / steps:.2f} µs ({replayed.timing})",
                NOT_PUBLISHED if form.seconds is None else f"{1e6 * form.seconds / steps:.2f} µs (simple)",
            ],
        ]
        return ["layers of weights alone", "SANA-FE", "closed form"], rows

    def layers_table(self) -> Table:
        """Each layer and population: size, cores, the limit that binds, messages per token, one for each core."""
        placement, tokens = self.found.placement, max(self.found.traffic.tokens, 1)
        cores: dict[str, set[int]] = {}
        for piece in placement.weights:
            cores.setdefault(piece.layer, set()).add(piece.core)
        for each in placement.neurons:
            cores.setdefault(each.population, set()).add(each.core)
        rows: list[list[Cell]] = [
            [
                layer.name,
                f"{layer.rows} × {layer.columns}",
                len(cores[layer.name]),
                placement.binding[layer.name],
                round(self.found.messages.get(layer.name, 0.0) / tokens, 1),
            ]
            for layer in placement.layers
        ]
        rows += [
            [
                population.name,
                f"{population.neurons} neurons",
                len(cores[population.name]),
                placement.binding[population.name],
                round(self.found.messages[population.name] / tokens, 1),
            ]
            for population in placement.populations
        ]
        return ["layer or population", "size", "cores", "limit that binds", "messages per token"], rows

    def chip_table(self) -> Table:
        """Limits and costs of the chip, with their sources."""
        return ["figure", "value", "source"], [[*row] for row in self.found.chip.figures()]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        found, steps = self.found, self.found.steps
        tokens = max(found.traffic.tokens, 1)
        replayed = None if found.replay is None else self._replay_dict()
        return {
            "made_by": MADE_BY_DEPLOY,
            "model": self.name,
            "data": self.source,
            "chip": found.chip.to_dict(),
            "tokens": found.traffic.tokens,
            "time_steps": found.traffic.time_steps,
            "context": found.context,
            "cores": len(found.placement.cores),
            "weight_cores": found.placement.weight_cores,
            "chips": found.placement.chips,
            "binding": found.placement.binding,
            "per_token": {
                "events": steps.events / tokens,
                "messages": steps.messages / tokens,
                "hops": steps.hops / tokens,
                "energy_pj": {name: None if pj is None else pj / tokens for name, pj in steps.energy_pj.items()},
                "payload_pj": None if found.payload_pj is None else found.payload_pj / tokens,
            },
            "step_seconds": {"mean": steps.mean_seconds, "longest": steps.longest if steps.mean_seconds else None},
            "stages": found.stages,
            "latency_steps": found.latency_steps,
            "latency_seconds": found.latency_seconds,
            "tokens_per_second": found.tokens_per_second,
            "weight_bits": found.weight_bits,
            "quality": None if found.quality is None else found.quality.to_dict(),
            "energy": found.energy.totals(),
            "replay": replayed,
            "summary": self.summary_rows(),
            "layers": self.layers_table()[1],
            "weights": self._weights(),
            "steps": {"seconds": steps.shown_seconds, "messages": steps.shown_messages},
            "not_in_it": list(NOT_IN_IT),
        }

    def _weights(self) -> list[tuple[str, str, int]]:
        """Each layer of weights, the limit that binds, and its cores."""
        placement = self.found.placement
        cores = Counter(piece.layer for piece in placement.weights)
        return [(layer.name, placement.binding[layer.name], cores[layer.name]) for layer in placement.layers]

    def _replay_dict(self) -> dict[str, Any]:
        replayed, form = self.found.replay, self.found.weights
        assert replayed is not None
        assert form is not None
        return {
            "timing": replayed.timing,
            "pieces": replayed.pieces,
            "energy_pj": {
                name: None if form.energy_pj[name] is None else energy for name, energy in replayed.energy_pj.items()
            },
            "seconds": None if form.seconds is None else replayed.seconds,
            "events": {layer.name: layer.synaptic_events for layer in replayed.layers},
        }

    def to_markdown(self) -> str:
        """Summary, replay, layers, figures of the chip."""
        replayed = self.replay_table()
        sections = [
            f"# {self.name} on {self.found.chip.name}\n",
            f"<!-- {MADE_BY_DEPLOY} -->\n",
            "\n".join(markdown_table(["", "value"], [[*row] for row in self.summary_rows()])),
            *([] if replayed is None else ["\n## Replayed\n", "\n".join(markdown_table(*replayed))]),
            "\n## Layers and populations\n",
            "\n".join(markdown_table(*self.layers_table())),
            "\n## The chip\n",
            "\n".join(markdown_table(*self.chip_table())),
        ]
        return "\n".join(sections) + "\n"

    def summary(self) -> str:
        """A few lines for the terminal."""
        width = max(len(name) for name, _ in self.summary_rows())
        lines = [f"{name:{width}}  {value}" for name, value in self.summary_rows()]
        return "\n".join(lines)


def _micro(picojoules: float | None, tokens: int) -> str:
    return NOT_PUBLISHED if picojoules is None else f"{1e-6 * picojoules / tokens:.4g} µJ"


def _payloads(found: Deployment) -> str:
    needed, has = found.payload_needed, found.chip.payload_bits
    if needed == 1:
        return "binary, as it has them"
    if has is None:
        return f"graded, {needed} bits needed; how many it has is {NOT_PUBLISHED}"
    if has >= needed:
        return f"graded, {needed} bits needed, {has} there"
    return f"graded, {needed} bits needed, {has} there: counted as if a graded spike cost what a binary one does"


def _too_many_bits(found: Deployment) -> str:
    has = found.chip.weight_bits
    return (
        "" if has is None or has >= found.weight_bits else f"; it has {has}: each weight taken for several of its own"
    )


def _lost(found: Deployment) -> str:
    quality = found.quality
    assert quality is not None
    if quality.ann_perplexity is not None and quality.snn_perplexity is not None:
        return f"perplexity {quality.ann_perplexity:.3f} → {quality.snn_perplexity:.3f}"
    return f"relative error of the output {quality.relative_error:.2e}"
