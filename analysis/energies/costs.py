"""What an operation costs: energies with their source, technology node and precision."""

import math
from dataclasses import dataclass

from spikingjelly.activation_based.op_counter import SimpleEnergyCostConfig

HOROWITZ = "Horowitz 2014, doi 10.1109/ISSCC.2014.6757323"
STEP = "STEP's 3.12 pJ/bit, as in SpikingJelly's SimpleEnergyCostConfig"


@dataclass(frozen=True)
class EnergyCosts:
    """Energies of one technology and precision.

    Args:
        name: of the preset.
        bits: width of weights, activations and membrane potentials.
        e_mac_pj, e_ac_pj: energy of a multiply-accumulate and of an accumulate, pJ.
        e_memory_pj_per_byte: energy of moving one byte, pJ.
        technology_nm: technology node, nm.
        source: where the figures are from.

    Raises:
        ValueError: an energy is negative, or a MAC is cheaper than the addition in it.
    """

    name: str
    bits: int
    e_mac_pj: float
    e_ac_pj: float
    e_memory_pj_per_byte: float = 24.96
    technology_nm: int = 45
    source: str = f"{HOROWITZ}; memory: {STEP}"

    def __post_init__(self) -> None:
        if not 0 <= self.e_ac_pj <= self.e_mac_pj < math.inf or self.e_mac_pj == 0:
            raise ValueError(f"energies must be 0 <= e_ac_pj <= e_mac_pj, got {self.e_ac_pj!r} and {self.e_mac_pj!r}")
        if not 0 <= self.e_memory_pj_per_byte < math.inf:
            raise ValueError(f"e_memory_pj_per_byte must be finite and not negative, got {self.e_memory_pj_per_byte!r}")
        if self.bits < 1:
            raise ValueError(f"bits must be at least 1, got {self.bits!r}")

    @property
    def bytes(self) -> float:
        """Of one number."""
        return self.bits / 8

    @property
    def e_multiply_pj(self) -> float:
        """Energy of a multiplication alone, pJ."""
        return self.e_mac_pj - self.e_ac_pj

    def quantised_mac_pj(self, bits: int, operands: int = 1) -> float:
        """Energy of a MAC of which one or both operands have fewer bits, pJ.

        The energy of a multiplier grows with the product of its operands' widths (an 8-bit integer multiplication takes
        0.2 pJ, a 32-bit one 3.1 pJ at 45 nm, Horowitz 2014); the addition keeps its width.
        """
        return self.e_ac_pj + self.e_multiply_pj * min(1.0, bits / self.bits) ** operands

    @classmethod
    def preset(cls, name: str) -> "EnergyCosts":
        """One of `PRESETS`.

        Raises:
            ValueError: an unknown name.
        """
        if name not in PRESETS:
            raise ValueError(f"energy costs must be one of {', '.join(PRESETS)}, got {name!r}")
        return PRESETS[name]


def _preset(name: str, bits: int, config: SimpleEnergyCostConfig) -> EnergyCosts:
    return EnergyCosts(name, bits, config.e_mac_pj, config.e_ac_pj, config.e_memory_pj_per_byte)


PRESETS = {
    "fp32": _preset("fp32", 32, SimpleEnergyCostConfig.fp32()),
    "fp16": _preset("fp16", 16, SimpleEnergyCostConfig.fp16()),
    "int8": _preset("int8", 8, SimpleEnergyCostConfig.int8()),
}

ELECTRA = "Clark et al. 2020 (ELECTRA), flops_computation.py"
LAS = "LAS, arXiv 2505.09659, Appendix E"
_ACTIVATION_FLOPS = 8

# Floating-point operations of the ANN's native non-linearities, per value (ELECTRA); each is priced as half a MAC.
NATIVE_FLOPS = {"norm": 5, "softmax": 5}
# The same where the paper gives another figure.
PAPER_FLOPS = {"gelu": 70, "gelu_tanh": 70, "gelu_10": 70}


def native_flops(name: str, paper: bool) -> int:
    """FLOPs per value of "norm", "softmax" or an activation function."""
    default = NATIVE_FLOPS.get(name, _ACTIVATION_FLOPS)
    return PAPER_FLOPS.get(name, default) if paper else default
