"""Codes that single populations of a network have instead of the one that all others have."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from las_sj.models.swap import named_sites
from las_sj.neurons import MultiThresholdCode, ThresholdNode

MOST_CHANNELS = 1 << 24


@dataclass(frozen=True)
class SiteCode:
    """Levels and spike limit of one population.

    Args:
        site: full name of its node.
        levels: n, 1 … 127.
        max_spikes: spikes allowed per window, or None.
        channels: how many have a threshold each; None: all have the same.

    Raises:
        ValueError: a setting is out of its range; the message names the population.
    """

    site: str
    levels: int
    max_spikes: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.site, str):
            raise ValueError(f"site_codes must name populations, got {self.site!r:.40}")
        if self.channels is not None and (not _is_count(self.channels) or not 1 <= self.channels <= MOST_CHANNELS):
            raise ValueError(
                f"site_codes of {self.site}: channels must lie in 1…{MOST_CHANNELS} or be None, got {self.channels!r}"
            )
        try:
            MultiThresholdCode(24, self.levels, max_spikes=self.max_spikes)
        except ValueError as error:
            raise ValueError(f"site_codes of {self.site}: {error}") from None

    def of(self, code: MultiThresholdCode) -> MultiThresholdCode:
        """The code of this population, where all others have `code`."""
        return replace(code, levels=self.levels, max_spikes=self.max_spikes)

    @property
    def plain(self) -> list[str | int | None]:
        """As a list, for JSON, whose last entry is left out where older versions have none."""
        return [self.site, self.levels, self.max_spikes, *([] if self.channels is None else [self.channels])]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def site_codes_in(values: object) -> tuple[SiteCode, ...]:
    """Codes of populations from plain values, [site, levels, max_spikes] each, or with the number of channels.

    Raises:
        ValueError: they are something else, or name a population twice.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"site_codes must be a list, got {values!r:.40}")
    codes = []
    for value in values:
        if not isinstance(value, SiteCode) and not (isinstance(value, list | tuple) and len(value) in (3, 4)):
            raise ValueError(f"site_codes must hold [site, levels, max_spikes, channels], got {value!r:.40}")
        codes.append(value if isinstance(value, SiteCode) else SiteCode(*value))
    if len({code.site for code in codes}) < len(codes):
        raise ValueError("site_codes must name each population once")
    return tuple(codes)


def codes_of(model: nn.Module, common: MultiThresholdCode) -> tuple[SiteCode, ...]:
    """The codes of populations that differ from the common one, or have a threshold for each channel."""
    codes = []
    for name, site in named_sites(model):
        node = site.node
        if not isinstance(node, ThresholdNode):
            continue
        channels = site.channels if node.per_channel else None
        own = SiteCode(name, node.code.levels, node.code.max_spikes, channels)
        if channels is not None or own.of(common) != common:
            codes.append(own)
    return tuple(codes)


def give_codes(model: nn.Module, codes: Iterable[SiteCode], prefix: str = "") -> list[str]:
    """Give populations the codes of their own; the others keep theirs.

    Args:
        model: with neurons.
        codes: by name.
        prefix: of names in the model that was saved, where `model` is the one inside of it.

    Returns:
        The names that `model` has no coding population of, or none with so many channels.
    """
    by_name = {code.site: code for code in codes}
    for name, site in named_sites(model):
        key = name if name in by_name else prefix + name
        own = by_name.get(key)
        if own is None or not isinstance(site.node, ThresholdNode) or own.channels not in (None, site.channels):
            continue
        del by_name[key]
        site.node.code = own.of(site.node.code)
        if own.channels is not None:
            site.node.part_channels(own.channels)
    return list(by_name)
