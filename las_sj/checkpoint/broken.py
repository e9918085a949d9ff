"""The error of a checkpoint that cannot be read."""


class BrokenCheckpointError(ValueError):
    """A checkpoint of a converted model is damaged, or none that this las_sj can read; the message says what to do."""
