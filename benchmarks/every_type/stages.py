"""What is asked of a type that converts, where it is asked for; each answer is a cell of the table."""

from collections.abc import Callable

from every_type.building import Subject
from every_type.energies import same_macs
from every_type.generation import same_tokens
from every_type.half_precision import error_in_half_precision
from every_type.monitoring import populations_that_fire
from every_type.padding import errors_with_padding
from every_type.placing import same_bits_anywhere
from every_type.saving import same_bits
from every_type.weights import Model

Stage = Callable[[Model, Subject], str]  # of the spiking network and the ANN with its inputs

# By the name of the option, of the journal's field and of the table's column, in the order of columns.
STAGES: dict[str, Stage] = {
    "generation": same_tokens,
    "saving": same_bits,
    "placing": same_bits_anywhere,
    "padding": errors_with_padding,
    "half": error_in_half_precision,
    "energies": same_macs,
    "monitor": populations_that_fire,
}
