"""What config.json says of a converted model, checked as it is read."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from las_sj.checkpoint.activations_entry import check_activation
from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.checkpoint.operations_entry import check_operations, upgraded
from las_sj.config import LASConfig
from las_sj.fas_config import FASConfig
from las_sj.neurons.soundness import MOST

METHOD = "las"
# 1: the model was not marked with its attention implementation; 2: no conversion by operations; 3: operations read no
# spikes of each other, and norms were not known; 4: no rate codes; 5: digests of neurons said nothing of their codes
FORMAT_VERSION = 6
_OPERATIONS_OF_THEIR_OWN = 3  # the last format of them
_CODES_IN_DIGESTS = 6  # the first format of them


@register_quantization_config(METHOD)
class LASQuantizationConfig(QuantizationConfigMixin):
    """What config.json says of a converted model.

    It has what `LASConfig` has, or `FASConfig` where it names a method of rate codes, the format version, and the
    ranges of HG neurons. It names quantised activations, with what they are. It names the modules that stayed
    analog by request (None in format 1, which has only the patterns). For each site it has a digest of its neurons;
    None in checkpoints that are older. Of a model that was converted by operations it has their populations.

    Raises:
        BrokenCheckpointError: the file was written by a newer version, or an entry is unknown or of a wrong kind.
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        format_version: int = FORMAT_VERSION,
        hg_ranges: dict[str, list[float]] | None = None,
        islands: list[str] | None = None,
        node_digests: dict[str, str] | None = None,
        operations: dict[str, Any] | None = None,
        activations: dict[str, dict[str, Any]] | None = None,
        quant_method: str = METHOD,
        **settings: Any,
    ) -> None:
        if type(format_version) is not int or format_version < 1:
            raise BrokenCheckpointError(
                f"the checkpoint has format version {format_version!r}, which no las_sj wrote: it is broken"
            )
        if format_version > FORMAT_VERSION:
            raise BrokenCheckpointError(
                f"the checkpoint has format version {format_version}, this las_sj reads 1…{FORMAT_VERSION}: upgrade it"
            )
        _check_by_name("hg_ranges", hg_ranges, _check_range)
        _check_by_name("node_digests", node_digests, _check_digest)
        if operations is not None:
            operations = upgraded(operations) if format_version <= _OPERATIONS_OF_THEIR_OWN else operations
            check_operations(operations)
        if islands is not None and not (isinstance(islands, list) and all(isinstance(name, str) for name in islands)):
            raise BrokenCheckpointError("islands must be a list of names: the checkpoint is broken")
        kind = FASConfig if "method" in settings else LASConfig
        unknown = sorted(settings.keys() - {field.name for field in fields(kind)})
        if unknown:
            raise BrokenCheckpointError(
                f"quantization_config has an entry {unknown[0]!r}, which no las_sj wrote: it is broken"
            )
        self.quant_method = quant_method  # type: ignore[assignment]
        self.format_version = format_version
        self.hg_ranges = hg_ranges or {}
        self.islands = islands
        self.node_digests = node_digests
        self.operations = operations
        _check_by_name("activations", activations, check_activation)
        self.activations = activations or {}
        self.settings: LASConfig | FASConfig = kind.from_dict(settings)

    @property
    def digests_codes(self) -> bool:
        """Whether digests of neurons are of their codes too."""
        return self.format_version >= _CODES_IN_DIGESTS

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """The entry that config.json holds.

        Raises:
            BrokenCheckpointError: it has no format version.
        """
        if "format_version" not in config_dict:
            raise BrokenCheckpointError("the checkpoint has no format version: it is broken")
        return super().from_dict(config_dict, return_unused_kwargs, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The entry for config.json."""
        return {
            "quant_method": METHOD,
            "format_version": FORMAT_VERSION,
            **self.settings.to_dict(),
            "hg_ranges": self.hg_ranges,
            "islands": self.islands,
            "node_digests": self.node_digests,
            "operations": self.operations,
            "activations": self.activations,
        }


def _check_by_name(entry: str, values: object, check: Callable[[str, Any], None]) -> None:
    """Raise a BrokenCheckpointError where an entry is no mapping of names to what `check` lets pass."""
    if values is None:
        return
    if not isinstance(values, Mapping):
        raise BrokenCheckpointError(
            f"{entry} must give a value for each name, got {values!r:.40}: the checkpoint is broken"
        )
    for name, value in values.items():
        check(name, value)


def _check_range(name: str, bounds: Any) -> None:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or not all(map(_is_bound, bounds)):
        raise BrokenCheckpointError(
            f"the range of {name} must be two numbers within ±{MOST:.1e}, got {str(bounds)[:40]}: "
            "the checkpoint is broken"
        )


def _is_bound(value: Any) -> bool:
    return type(value) in (int, float) and -MOST <= value <= MOST


def _check_digest(name: str, digest: Any) -> None:
    if not isinstance(digest, str):
        raise BrokenCheckpointError(
            f"the digest of {name} must be text, got {str(digest)[:40]}: the checkpoint is broken"
        )
