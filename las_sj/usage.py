"""A wrong use of a command, as opposed to anything that is wrong with files, data or the machine."""


class UsageError(ValueError):
    """The command line is wrong whatever the files hold; the message says why. Commands exit with 2."""
