"""Codes that single populations of a network have instead of the one that all others have."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from las_sj.models.swap import named_sites
from las_sj.neurons import MultiThresholdCode, ThresholdNode


@dataclass(frozen=True)
class SiteCode:
    """Levels and spike limit of one population.

    Args:
        site: full name of its node.
        levels: n, 1 … 127.
        max_spikes: spikes allowed per window, or None.

    Raises:
        ValueError: a setting is out of its range; the message names the population.
    """

    site: str
    levels: int
    max_spikes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.site, str):
            raise ValueError(f"site_codes must name populations, got {self.site!r:.40}")
        try:
            MultiThresholdCode(24, self.levels, max_spikes=self.max_spikes)
        except ValueError as error:
            raise ValueError(f"site_codes of {self.site}: {error}") from None

    def of(self, code: MultiThresholdCode) -> MultiThresholdCode:
        """The code of this population, where all others have `code`."""
        return replace(code, levels=self.levels, max_spikes=self.max_spikes)


def site_codes_in(values: object) -> tuple[SiteCode, ...]:
    """Codes of populations from plain values, [site, levels, max_spikes] each.

    Raises:
        ValueError: they are something else, or name a population twice.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"site_codes must be a list, got {values!r:.40}")
    codes = []
    for value in values:
        if not isinstance(value, SiteCode) and not (isinstance(value, list | tuple) and len(value) == 3):
            raise ValueError(f"site_codes must hold [site, levels, max_spikes], got {value!r:.40}")
        codes.append(value if isinstance(value, SiteCode) else SiteCode(*value))
    if len({code.site for code in codes}) < len(codes):
        raise ValueError("site_codes must name each population once")
    return tuple(codes)


def give_codes(model: nn.Module, codes: Iterable[SiteCode], prefix: str = "") -> list[str]:
    """Give populations the codes of their own; the others keep theirs.

    Args:
        model: with neurons.
        codes: by name.
        prefix: of names in the model that was saved, where `model` is the one inside of it.

    Returns:
        The names that `model` has no coding population of.
    """
    by_name = {code.site: code for code in codes}
    for name, site in named_sites(model):
        own = by_name.pop(name, None) or by_name.pop(prefix + name, None)
        if own is not None and isinstance(site.node, ThresholdNode):
            site.node.code = own.of(site.node.code)
    return list(by_name)
