"""What an optimisation raises."""


class OptimisationError(RuntimeError):
    """An optimisation cannot begin or go on; the message says why and what to do."""


class OutOfReachError(OptimisationError):
    """No plan reaches the goal; statistics hold for others."""
