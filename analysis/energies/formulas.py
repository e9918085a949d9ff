"""How each column of an energy table is computed, in words."""

from las_sj.analysis.energies.costs import ELECTRA, LAS, EnergyCosts
from las_sj.analysis.energies.operations import MAC_KINDS
from las_sj.analysis.energies.prices import EQUAL_LOSS, code_bits
from las_sj.models.lanes import Lanes


def formulas(costs: EnergyCosts, time_steps: int, equal_loss_bits: int | None = None) -> dict[str, str]:
    """How each column of an energy table is computed, with the figures put in."""
    byte = costs.e_memory_pj_per_byte
    texts = {
        "costs": _costs(costs),
        "MACs": "multiply-accumulates of the ANN, padding and masked scores excluded",
        "analog": "parts that stayed analog: the SNN runs their MACs too, at full precision; padding among them, their "
        "native non-linearities on neither side",
        "constant": "products of constants with weights (a learned query): the SNN runs their MACs too, once a call",
        "synaptic operations": "spikes × the synapses that each comes to: output features (weights), live partners "
        "(products), 1 (into a neuron), padding and masked scores excluded",
        "spikes per neuron": "of the populations whose spikes go into the operator, per window of T steps",
        "paper": "ANN: E_MAC × MACs; SNN: E_AC × synaptic operations (LAS, arXiv 2505.09659, Appendix E). The ratio "
        f"is over {', '.join(MAC_KINDS)}; native non-linearities are rows of their own on both sides, the ANN's at "
        f"E_MAC/2 per FLOP: GELU 70 ({LAS}), other functions 8, softmax 5, norm 5 per value ({ELECTRA})",
        "level_aware": "as paper, over all operators, but a spike with n levels costs ⌈log2(n+1)⌉ × E_AC; dense "
        "operations on currents (biases, residual additions, means, maxima, RoPE, scale factors) are paid at each of "
        f"the T = {time_steps} steps (E_AC per addition, E_MAC − E_AC per scaling), once in the ANN; each neuron pays "
        "E_AC for its update at each step, an HG neuron one more for its bias; GELU at 8 FLOPs. Left out: the choice "
        "of a sub-neuron, the sums of a product's operands so far",
        "with_memory": f"as level_aware, plus {byte:g} pJ/byte: the SNN reads a weight (or accumulated operand) of "
        f"{costs.bits} bits for each synaptic operation, and reads and writes each membrane potential at each step; "
        "the ANN reads one for each MAC, and writes and reads each input of a matrix product or native operation "
        f"once, quantised to the {min(time_steps + 1, costs.bits)} bits that the code carries (T + 1, at most "
        f"{costs.bits}), which shrinks its multipliers in proportion. Both read a row of each embedding for each "
        "token. Left out on both sides: routing, caches, reuse of weights",
    }
    if equal_loss_bits is not None:
        texts[EQUAL_LOSS] = (
            f"as with_memory, the ANN's activations at {equal_loss_bits} bits: the fewest with which it loses no more "
            "than the SNN (measured on the first batch, one scale per token, rounded to nearest)"
        )
    return texts


def formulas_of_rate_codes(costs: EnergyCosts, lanes: Lanes, equal_loss_bits: int | None = None) -> dict[str, str]:
    """How each column of an energy table is computed, of a network of rate codes."""
    steps, bits = lanes.presented, min(code_bits(lanes.time_steps, lanes), costs.bits)
    presented = f"{steps} times (T = {lanes.time_steps}, {lanes.before} before, {lanes.looked_ahead} looked ahead at)"
    texts = {
        "costs": _costs(costs),
        "MACs": "multiply-accumulates of the ANN; padding is excluded where spikes come, and counted, with masked "
        "scores, everywhere else",
        "analog": "layers and attention that no spikes come to: the SNN runs them on real numbers each time that its "
        f"input is presented, {presented}. Their energy is that of the ANN times {steps}, so that SNN / ANN is at "
        "least that times their share of the MACs (8/12 of the weights of GPT-2's blocks): a network in which only "
        "activations spike costs more than its ANN, however few spikes there are",
        "left out": "on both sides: softmax, norms, activation functions, residual additions, embeddings",
        "synaptic operations": "spikes of all lanes × output features of the layer that they come to; 1 into a gate's "
        "product, after which a layer sees real numbers. A threshold of a site or channel is folded into the weights; "
        "with one for each position every spike costs a MAC, counted as analog"
        + ("; steps that are looked ahead at have as many spikes as others" if lanes.looked_ahead else ""),
        "spikes per neuron": f"of the populations whose spikes go into the operator, over {lanes.count} lanes",
        "paper": "ANN: E_MAC × MACs; SNN: E_AC × synaptic operations + E_MAC × analog MACs. The ratio is over "
        f"{', '.join(kind for kind in MAC_KINDS if kind not in ('constant', 'analog'))}",
        "level_aware": "as paper, with gates; spikes are binary; each neuron pays E_AC for its update each time, and a "
        "layer with a bias that spikes come to E_AC for each output, once in the ANN",
        "with_memory": f"as level_aware, plus {costs.e_memory_pj_per_byte:g} pJ/byte: the SNN reads a weight of "
        f"{costs.bits} bits for each synaptic operation and analog MAC, and reads and writes each membrane potential "
        "at each step; the ANN reads a weight for each MAC, and writes and reads the activations that are coded, "
        f"quantised to the {bits} bits that the code carries (⌈log2(T+1)⌉), which shrinks its multipliers there in "
        "proportion. Left out on both sides: other activations, caches, reuse of weights",
    }
    if equal_loss_bits is not None:
        texts[EQUAL_LOSS] = (
            f"as with_memory, the activations that are coded at {equal_loss_bits} bits in the ANN: the fewest with "
            "which it loses no more than the SNN (measured on the first batch, against activations clipped alone)"
        )
    return texts


def _costs(costs: EnergyCosts) -> str:
    return (
        f"{costs.name}, {costs.technology_nm} nm: E_MAC = {costs.e_mac_pj:g} pJ, E_AC = {costs.e_ac_pj:g} pJ, memory "
        f"{costs.e_memory_pj_per_byte:g} pJ/byte ({costs.source})"
    )
