"""What can be wrong with an evaluation: its model, its data, or its folder of finished batches."""


class SourceError(ValueError):
    """The model cannot be evaluated as it was asked for; the message says why."""


class GlueError(ValueError):
    """A task of GLUE cannot be read or scored; the message says why."""


class YesNoError(ValueError):
    """A set of yes-no questions cannot be used; the message says why."""


class MediaTaskError(ValueError):
    """Images or sounds cannot be scored; the message says why."""


class ZeroShotError(ValueError):
    """A task of lm-eval cannot be run; the message says why."""


class JournalError(ValueError):
    """A folder of finished batches cannot be used; the message says why."""
