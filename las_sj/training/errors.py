"""Errors of trainings."""


class TrainingError(ValueError):
    """A training cannot be begun, gone on with, or finished; the message says why."""


class CheckpointError(TrainingError):
    """A checkpoint of an unfinished training is damaged; the message says that `--restart` begins anew."""
