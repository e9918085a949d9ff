"""The classes of operations that an audit tells apart."""

SPIKE_WEIGHT = "spike × weight"
SPIKE_ACCUMULATED = "spike × accumulated spike"
NEURON_UPDATE = "neuron update"
ADDITION = "addition"
COMPARISON = "comparison"
CONSTANT_SCALING = "constant scaling"
ANALOG_PRODUCT = "product of analog operands"
CLASSES = (
    SPIKE_WEIGHT,
    SPIKE_ACCUMULATED,
    NEURON_UPDATE,
    ADDITION,
    COMPARISON,
    CONSTANT_SCALING,
    ANALOG_PRODUCT,
)
Event = tuple[str, str, int | None]  # class, operator, and how many; None: the size of the output
