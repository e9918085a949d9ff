"""Optional dependencies: what is missing is said in one line, with the command that installs it."""

from importlib.util import find_spec


class MissingExtraError(RuntimeError):
    """An optional dependency is not installed; the message says how to install it."""


def require_extra(extra: str, *modules: str) -> None:
    """Make sure that the modules of an extra of this package can be imported, without importing them.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"{', '.join(missing)} not installed: pip install 'las_sj[{extra}]'")
