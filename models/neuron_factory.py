"""Makes the neurons of a network, all with the same settings."""

from dataclasses import dataclass

from las_sj.neurons import CodingHGNode, HGNode, MTNode, MultiThresholdCode, OATNode


@dataclass(frozen=True)
class NeuronFactory:
    """Makes the neurons of a network, all with the same settings; thresholds are set by calibration.

    Args:
        code: time steps, levels, rounding and spike limit.
        hg_tolerance: error that HG neurons are fitted to.
        outlier_aware: OAT neurons; otherwise one MT neuron each (the paper's ablation).
        power_of_two_units: whether calibration makes θ/n powers of two.
        hg_lines: that a population of HG neurons may store; None: as many as the tolerance asks for.
        fewer_stages: whether norms, softmax and activations take their short forms.
    """

    code: MultiThresholdCode
    hg_tolerance: float = 1e-5
    outlier_aware: bool = True
    power_of_two_units: bool = False
    hg_lines: int | None = None
    fewer_stages: bool = False

    def coder(self) -> OATNode | MTNode:
        """A neuron that codes values as spikes, thresholds 1."""
        code = (self.code.time_steps, self.code.levels, self.code.rounding, self.code.max_spikes)
        node = OATNode(1.0, 1.0, *code) if self.outlier_aware else MTNode(1.0, *code)
        node.power_of_two_units = self.power_of_two_units
        return node

    def non_linearity(self, function: str) -> HGNode:
        """An HG neuron."""
        return HGNode(function, self.code.time_steps, tolerance=self.hg_tolerance, lines=self.hg_lines)

    def coded(self, function: str) -> CodingHGNode:
        """A neuron that takes the place of an HG neuron and of the one that codes its output."""
        node = CodingHGNode(function, self.code, self.hg_tolerance, self.outlier_aware, self.hg_lines)
        node.power_of_two_units = self.power_of_two_units
        return node
