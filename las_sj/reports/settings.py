"""Settings of a conversion as reports show them."""

from collections.abc import Mapping
from typing import Any


def settings_in_words(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names of settings and their values; codes of single populations, of which there are hundreds, by their number.

    Args:
        settings: plain values, as `LASConfig.to_dict` gives them.
    """
    shown = {name: str(value) for name, value in settings.items()}
    codes = settings.get("site_codes")
    if codes:
        shown["site_codes"] = f"{len(codes)} populations have their own"
        for name in shown.keys() & {"levels", "max_spikes"}:
            shown[name] = f"{shown[name]}, but for populations with a code of their own"
    return [*shown.items()]
