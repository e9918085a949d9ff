"""What one operator costs, in the ANN and in the SNN, in each accounting."""

import math
from dataclasses import dataclass

from las_sj.analysis.energies.costs import EnergyCosts, native_flops
from las_sj.analysis.energies.operations import Operations
from las_sj.models.lanes import Lanes

EQUAL_LOSS = "with_memory_equal_loss"

Energies = dict[str, float]


def code_bits(time_steps: int, lanes: Lanes | None = None) -> int:
    """Bits that the code of T signed binary steps carries: T + 1; rate codes, which count spikes, ⌈log2(T+1)⌉."""
    return time_steps + 1 if lanes is None else math.ceil(math.log2(lanes.time_steps + 1))


@dataclass(frozen=True)
class Prices:
    """Prices of operators; `energy.formulas` says in words how each is computed.

    Args:
        costs: energies of single operations.
        time_steps: T.
        equal_loss_bits: the fewest bits of activations with which the ANN loses no more than the SNN, if measured.
        lanes: of a network of rate codes: neurons are updated as often as its input is presented, and what is analog
            in the SNN is at full precision in the ANN too.
    """

    costs: EnergyCosts
    time_steps: int
    equal_loss_bits: int | None = None
    lanes: Lanes | None = None

    def ann_pj(self, row: Operations) -> Energies:
        """Energy of the operator in the ANN, by accounting, pJ."""
        costs = self.costs
        dense = costs.e_ac_pj * row.ann_additions + costs.e_multiply_pj * row.ann_scalings
        native = {
            paper: costs.e_mac_pj / 2 * sum(native_flops(name, paper) * count for name, count in row.native.items())
            for paper in (True, False)
        }
        energies = {
            "paper": costs.e_mac_pj * row.macs + native[True],
            "level_aware": costs.e_mac_pj * row.macs + native[False] + dense,
        }
        carried = code_bits(self.time_steps, self.lanes)
        for name, bits in (("with_memory", carried), (EQUAL_LOSS, self.equal_loss_bits)):
            if bits is not None:
                energies[name] = self._quantised_pj(row, self._bits_at(row, bits)) + native[False] + dense
        return energies

    def _bits_at(self, row: Operations, bits: int) -> int:
        """Bits of activations there, where those of coded ones are `bits`."""
        return self.costs.bits if self.lanes is not None and row.analog_macs else bits

    def _quantised_pj(self, row: Operations, bits: int) -> float:
        """MACs and data movement of an ANN whose activations have `bits` bits."""
        costs = self.costs
        activation = min(bits, costs.bits) / 8
        operand = activation if row.is_product else costs.bytes
        moved = row.macs * operand + 2 * row.activations * activation + row.lookups * costs.bytes
        mac = costs.quantised_mac_pj(bits, operands=2 if row.is_product else 1)
        return mac * row.macs + costs.e_memory_pj_per_byte * moved

    def snn_pj(self, row: Operations) -> Energies:
        """Energy of the operator in the SNN, by accounting, pJ."""
        costs, steps = self.costs, self.time_steps if self.lanes is None else self.lanes.presented
        dense = steps * (costs.e_ac_pj * row.additions + costs.e_multiply_pj * row.scalings)
        neurons = costs.e_ac_pj * (steps * row.states + row.biases)
        analog = costs.e_mac_pj * row.analog_macs
        computed = costs.e_ac_pj * row.levelled_operations + dense + neurons + analog
        moved = row.synaptic_operations + 2 * steps * row.states + row.lookups + row.analog_macs
        with_memory = computed + costs.e_memory_pj_per_byte * costs.bytes * moved
        energies = {
            "paper": costs.e_ac_pj * row.synaptic_operations + analog,
            "level_aware": computed,
            "with_memory": with_memory,
        }
        return energies if self.equal_loss_bits is None else energies | {EQUAL_LOSS: with_memory}
