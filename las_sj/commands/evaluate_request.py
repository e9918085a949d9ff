"""What `las-sj evaluate` is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from las_sj.commands.command_line import OneLineParser, add_settings, at_least, config_of, split_settings
from las_sj.commands.devices import check_device_name
from las_sj.commands.media_options import add_trust
from las_sj.config import LASConfig
from las_sj.evaluation.models import Source
from las_sj.evaluation.registry import Options
from las_sj.fas_config import FASConfig
from las_sj.presets import settings_of


@dataclass(frozen=True)
class EvaluateRequest:
    """An evaluation.

    Attributes:
        model: a converted folder, or hub name or folder of a model to convert first.
        tasks: names, as `las_sj.evaluation.registry.prepare` takes them.
        output: folder to write.
        config: settings of a conversion.
        given: names of the settings among them that were asked for, which a converted model must have.
        preset: that some of them are of, or None.
        overwrite: whether the folder may be that of an earlier evaluation.
        restart: whether the finished batches of a run that was cut off are forgotten.
        limit: rows, tokens or questions of each task; None for all.
        batch_size: rows, windows, requests or questions.
        execution: "accumulated" or "temporal"; None is the fastest in which neurons spike.
        gguf_file: within the model, for GGUF checkpoints.
        dtype: of a conversion; None is "float32".
        device: of the weights.
        data_dir: files of the tasks; None reads from the hub.
        text, questions, images, audio: files and folders of the tasks that need them.
        window, stride: of texts, in tokens; a stride of None is half the window.
        calibration: file of text; None is data of the first task, or the model's own text.
        calibration_tokens: how many are taken.
        trust: whether code that comes with the model may run.

    Raises:
        ValueError: a number is out of its range, a task comes twice or none at all, or a name cannot be one.
    """

    model: str
    tasks: tuple[str, ...]
    output: Path
    config: LASConfig | FASConfig = field(default_factory=LASConfig)
    given: tuple[str, ...] = ()
    preset: str | None = None
    overwrite: bool = False
    restart: bool = False
    limit: int | None = None
    batch_size: int = 8
    execution: str | None = None
    gguf_file: str | None = None
    dtype: str | None = None
    device: str = "cpu"
    data_dir: Path | None = None
    text: Path | None = None
    questions: Path | None = None
    images: Path | None = None
    audio: Path | None = None
    window: int = 1024
    stride: int | None = None
    calibration: Path | None = None
    calibration_tokens: int = 4096
    trust: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "window", "stride", "calibration_tokens"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0, 2**63 - 1)
        if (self.stride or 1) > self.window:
            raise ValueError(f"--stride {self.stride} is more than --window {self.window}: tokens would be left out")
        if not self.tasks:
            raise ValueError("--task names no task")
        check_names(self.tasks)
        check_device_name(self.device)
        if not self.output.name:
            raise ValueError(f"--output {self.output} is no name for a new folder")

    @property
    def of_preset(self) -> frozenset[str]:
        """Names of the settings that the preset stands for."""
        return frozenset() if self.preset is None else frozenset(settings_of(self.preset))

    @property
    def seed(self) -> int:
        """Of the bootstrap and of generated calibration data."""
        return self.config.seed

    @property
    def unfinished(self) -> Path:
        """Where finished batches lie until all are."""
        return self.output.with_name(f"{self.output.name}.unfinished")

    @property
    def source(self) -> Source:
        """The model, as `load_pair` takes it."""
        kind = self.dtype or "float32"
        return Source(self.model, self.config, self.gguf_file, self.execution, kind, self.device, self.trust)

    @property
    def options(self) -> Options:
        """The data, as the tasks take it."""
        return Options(
            folder=self.data_dir,
            text=self.text,
            questions=self.questions,
            images=self.images,
            audio=self.audio,
            batch_size=self.batch_size,
            window=self.window,
            stride=self.stride,
            limit=self.limit,
            seed=self.seed,
        )

    @property
    def files(self) -> dict[str, str | None]:
        """Paths that were given, by name."""
        names = ("gguf_file", "data_dir", "text", "questions", "images", "audio", "calibration")
        values = {name: getattr(self, name) for name in names}
        return {name: None if value is None else str(value) for name, value in values.items()}

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        files = (self.data_dir, self.text, self.questions, self.images, self.audio, self.calibration)
        return [Path(self.model), *(path for path in files if path is not None)]


def check_names(names: tuple[str, ...]) -> None:
    """Raise a ValueError where a task comes twice, as it may by itself and in a group."""
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"--task names {twice[0]} twice")


def parse_arguments(arguments: list[str] | None = None) -> EvaluateRequest:
    """Read the command line, which ends the command where it is wrong."""
    return _parser().request(arguments, _request)


def _request(given: dict[str, Any]) -> EvaluateRequest:
    settings, others = split_settings(given)
    tasks = tuple(name.strip() for name in others.pop("task").split(",") if name.strip())
    own = tuple(name for name in settings if name != "seed")
    return EvaluateRequest(tasks=tasks, config=config_of(settings), given=own, **others)


def _parser() -> OneLineParser:
    parser = OneLineParser("evaluate", "Measure a model and its spiking network on the same batches of real tasks.")
    parser.add_argument("model", help="a converted folder, or a hub name or folder to convert first")
    parser.add_argument(
        "--task",
        required=True,
        metavar="NAMES",
        help="with commas: GLUE (SST-2, CoLA, MRPC, STS-B, QQP, MNLI, MNLI-mm, QNLI, RTE, WNLI), texts (wikitext2, "
        "wikitext103, enwik8, text), pope_random, pope_popular, pope_adversarial, yes_no, "
        "image_classes, speech, text_to_text (encoder–decoders), or any task of lm-eval",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--restart", action="store_true", help="forget the finished batches of a run that was cut off")
    parser.add_argument("--limit", type=int, metavar="N", help="rows, tokens or questions of each task (all)")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--execution", choices=("accumulated", "temporal"))
    parser.add_argument("--gguf-file", metavar="FILE", help="GGUF file within MODEL")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of a conversion (float32)")
    parser.add_argument("--device")
    add_trust(parser)
    _add_data(parser)
    add_settings(parser)
    return parser


def _add_data(parser: OneLineParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data-dir", type=Path, metavar="DIR", help="files of the tasks (the hub)")
    data.add_argument("--text", type=Path, metavar="FILE", help="text to predict, or lines for text_to_text")
    data.add_argument("--questions", type=Path, metavar="FILE", help="yes-no questions, JSON lines as in POPE")
    data.add_argument("--images", type=Path, metavar="DIR", help="images of the questions, or by class")
    data.add_argument("--audio", type=Path, metavar="DIR", help="sounds, for speech")
    data.add_argument("--window", type=int, metavar="N", help="tokens that predict the next one (1024)")
    data.add_argument("--stride", type=int, metavar="N", help="tokens that each window predicts (half of them)")
    data.add_argument(
        "--calibration", type=Path, metavar="FILE", help="text (training rows of a GLUE task; the model's own text)"
    )
    data.add_argument("--calibration-tokens", type=int, metavar="N")
