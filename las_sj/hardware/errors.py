"""What can be wrong with a chip, or with what is placed on it."""


class ChipError(ValueError):
    """A description of a chip cannot be used; the message says why."""


class PlacementError(ValueError):
    """A network does not fit; the message says what does not, and how much would be needed."""
