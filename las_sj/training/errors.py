"""Errors of trainings."""


class TrainingError(ValueError):
    """A training cannot be begun, gone on with, or finished; the message says why."""
