"""What can be wrong with images, sounds and pairs."""


class ExampleError(ValueError):
    """Images, sounds or pairs cannot be used; the message says why."""
