"""Modules that a command is told to keep analog."""

from collections.abc import Iterator
from contextlib import contextmanager

from las_sj.config import LASConfig
from las_sj.fas_config import FASConfig
from las_sj.models import UnsupportedModelError


@contextmanager
def analog_by_option(config: LASConfig | FASConfig) -> Iterator[None]:
    """Have errors that come of modules kept analog name the option, and say how it is mended.

    Args:
        config: the settings, among which are patterns of names.

    Raises:
        UnsupportedModelError: in place of such an error.
    """
    patterns = config.keep_analog if isinstance(config, LASConfig) else ()
    try:
        yield
    except UnsupportedModelError as error:
        reason = str(error).removeprefix("keep_analog: ")
        if not patterns or (reason == str(error) and "no layer that can be converted" not in reason):
            raise
        raise UnsupportedModelError(
            f"--keep-analog {' '.join(patterns)}: {reason}; give names of modules such as transformer.h.0.mlp, or "
            "leave it out"
        ) from error
