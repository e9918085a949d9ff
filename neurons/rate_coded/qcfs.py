"""The neuron of QCFS."""

from las_sj.neurons.rate_coded.integrate_and_fire import RateCodedNode


class QCFSIFNode(RateCodedNode):
    """Integrate-and-fire neuron that begins at half its threshold (QCFS, arXiv 2303.04347).

    Under a constant current z it has fired clip(⌊t·z/θ + ½⌋, 0, t) times after each step t. Its value after T = L steps
    is that of the `QCFSQuantizer` of L levels. Under a current that changes, it errs by its unevenness.
    Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T, B, ..., C] to [T, B, ..., C]. Spikes are 0 or 1.

    Args:
        theta, surrogate_function, step_mode, is_trained: as in `RateCodedNode`.
        beta: membrane potential at the beginning, in thresholds.
    """
