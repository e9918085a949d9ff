"""What `las-sj convert` is asked for."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from las_sj.checkpoint.placement import DEVICE_MAPS
from las_sj.commands.command_line import OneLineParser, add_settings, at_least, config_of, option_of, split_settings
from las_sj.commands.devices import check_device_name
from las_sj.commands.media_options import add_media, add_trust, one_of
from las_sj.config import LASConfig
from las_sj.fas_config import FASConfig

SAMPLES = 20


@dataclass(frozen=True)
class ConvertRequest:
    """A conversion.

    Attributes:
        output: folder to write.
        model: hub name or folder; None is the default model of this package.
        config: settings of the network.
        asked: names of those that were given; the others are defaults.
        overwrite: whether the folder may be that of an earlier conversion.
        gguf_file: within the model, for GGUF checkpoints.
        device, dtype: of the weights.
        device_map, max_memory: as `places_of` takes them.
        calibration: file of text.
        images, audio: folders of images or sounds.
        pairs: file of texts with an image or a sound each.
        evaluation: file or folder of the same kind as that; None is a part of it.
        samples: images, sounds or pairs that are taken, at most.
        calibration_tokens, evaluation_tokens: how many are taken.
        window: tokens of a sequence, at most.
        batch_size: windows of a batch.
        execution: of the comparison; None is the fastest in which neurons spike.
        trust: whether code that comes with the model may run.

    Raises:
        ValueError: a number is too small, there is no such device, data of several kinds are given, data to compare on,
            but none to calibrate on, or neurons do not spike in the execution.
    """

    output: Path
    model: str | None = None
    config: LASConfig | FASConfig = field(default_factory=LASConfig)
    asked: frozenset[str] = frozenset()
    overwrite: bool = False
    gguf_file: str | None = None
    device: str = "cpu"
    device_map: str | None = None
    max_memory: tuple[str, ...] = ()
    dtype: str = "float32"
    calibration: Path | None = None
    images: Path | None = None
    audio: Path | None = None
    pairs: Path | None = None
    evaluation: Path | None = None
    samples: int = SAMPLES
    calibration_tokens: int = 4096
    evaluation_tokens: int = 4096
    window: int = 256
    batch_size: int = 4
    execution: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_memory", tuple(self.max_memory))
        for name in ("calibration_tokens", "evaluation_tokens", "window"):
            at_least(name, getattr(self, name), 2)
        for name in ("batch_size", "samples"):
            at_least(name, getattr(self, name), 1)
        check_device_name(self.device)
        if self.model == "":
            raise ValueError("the name of the model is empty: give a hub name or a folder, or leave it out")
        if self.execution == "accumulated" != self.config.counted_in:
            raise ValueError(
                "--execution accumulated is the quantised ANN, which is compared anyway: rate codes spike in the "
                "temporal execution, leave it out"
            )
        option = self.data_option
        if self.evaluation is not None and option is None and self.model is not None:
            raise ValueError("--evaluation needs --calibration too, or --images, --audio or --pairs")
        if self.model is None and option not in (None, "calibration"):
            raise ValueError(f"{option_of(option)} needs a model that takes it: name one")

    def config_for(self, trained: FASConfig | None) -> LASConfig | FASConfig:
        """The settings of the network, of which a network of rate codes has those that were not given.

        Args:
            trained: its settings; None of a plain model.

        Raises:
            ValueError: it has other levels than those that were given, or settings do not go together.
        """
        if trained is None or isinstance(self.config, LASConfig):
            return self.config
        given = {name: getattr(self.config, name) for name in self.asked}
        if given.get("levels", trained.levels) != trained.levels:
            raise ValueError(f"{self.model} is trained with {trained.levels} levels: leave out --levels")
        if self.config.method != "fas" or self.config.fully_spiking:  # whose neurons are not calibrated
            trained = replace(trained, granularity="channel", positions=None)
        return replace(trained, **{"presimulation_steps": None} | given)

    @property
    def data_option(self) -> str | None:
        """The field that names what is calibrated on; None where the model generates it."""
        return one_of({name: getattr(self, name) for name in ("calibration", "images", "audio", "pairs")})

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        files = (self.model, self.calibration, self.images, self.audio, self.pairs, self.evaluation)
        return [Path(file) for file in files if file is not None]


def parse_arguments(arguments: list[str] | None = None) -> ConvertRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "convert", "Turn a pre-trained transformer into a fully spike-driven network, or one of rate codes."
    )
    add_model(parser)
    add_settings(parser)
    add_data(parser)
    return parser.request(arguments, request_of)


def request_of(given: dict[str, Any]) -> ConvertRequest:
    """The conversion that options ask for, by name."""
    settings, others = split_settings(given)
    others.pop("preset", None)
    return ConvertRequest(config=config_of(settings), asked=frozenset(settings), **others)


def add_model(parser: OneLineParser) -> None:
    """The options of what is converted, and where it goes."""
    parser.add_argument(
        "model", nargs="?", help="hub name or folder, of rate codes too (a small GPT-2 of this package)"
    )
    add_trust(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--gguf-file", metavar="FILE", help="GGUF file within MODEL")
    parser.add_argument("--device")
    parser.add_argument(
        "--device-map", choices=DEVICE_MAPS, help="spread a large model over devices, CPU and disk (accelerate)"
    )
    parser.add_argument(
        "--max-memory", nargs="+", metavar="DEVICE=SIZE", help="for --device-map auto: 0=20GiB cpu=8GiB"
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))


def add_data(parser: OneLineParser) -> None:
    """The options of the data to calibrate and compare on."""
    group = parser.add_argument_group("data")
    group.add_argument("--calibration", type=Path, metavar="FILE", help="text to calibrate on (the model's own)")
    add_media(group, SAMPLES)
    group.add_argument("--evaluation", type=Path, metavar="PATH", help="the same, to compare on (a part of it)")
    group.add_argument("--calibration-tokens", type=int, metavar="N")
    group.add_argument("--evaluation-tokens", type=int, metavar="N")
    group.add_argument("--window", type=int, metavar="N", help="tokens per window (256)")
    group.add_argument("--batch-size", type=int, metavar="N", help="windows per batch (4)")
    group.add_argument("--execution", choices=("accumulated", "temporal"), help="for the comparison")
