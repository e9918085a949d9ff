"""What the training steps of `las-sj fas` are asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device_name
from las_sj.evaluation.glue import TASKS
from las_sj.fas_config import FASConfig
from las_sj.training.language import OBJECTIVES
from las_sj.training.settings import PRECISIONS, TrainingSettings

_LOWER = {task.lower().replace("-", ""): task for task in TASKS}  # sst2, mrpc, … as on the hub


@dataclass(frozen=True)
class FasRequest:
    """A training step.

    Attributes:
        step: "pretrain" or "finetune".
        output: folder to write.
        training: settings of the training.
        settings: fields of the `FASConfig` that were given; the others are the checkpoint's, or defaults.
        model: hub name or folder, plain or of the step before; None is the default model.
        text: to train on.
        evaluation: held-out text; None is the last part of `text`.
        task: of GLUE, instead of a text.
        data: folder of GLUE; None reads from the hub.
        rows: of the task to train on, drawn at random; None is all.
        objective: "causal" or "masked"; None leaves it to the model.
        window: tokens of a row of text.
        max_length: tokens of a row of a task; longer texts are cut.
        mask_rate: share of tokens that are hidden from an encoder.
        thresholds: that all sites begin with; None takes them from data.
        evaluation_tokens: of held-out text that are measured.
        overwrite: whether the folder may be that of an earlier training.
        restart: whether checkpoints of an unfinished training are forgotten.

    Raises:
        ValueError: a number is out of its range, or options do not go together.
    """

    step: str
    output: Path
    training: TrainingSettings
    settings: dict[str, Any]
    model: str | None = None
    text: Path | None = None
    evaluation: Path | None = None
    task: str | None = None
    data: Path | None = None
    rows: int | None = None
    objective: str | None = None
    window: int = 128
    max_length: int = 128
    mask_rate: float = 0.15
    thresholds: float | None = None
    evaluation_tokens: int = 8192
    overwrite: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        at_least("window", self.window, 8)
        at_least("max_length", self.max_length, 4)
        at_least("evaluation_tokens", self.evaluation_tokens, 8)
        at_least("rows", self.rows, 1)
        if not 0 < self.mask_rate < 1:
            raise ValueError(f"mask_rate must lie between 0 and 1, got {self.mask_rate}")
        if self.thresholds is not None and not 1e-6 <= self.thresholds <= 1e6:
            raise ValueError(f"thresholds must lie in 1e-6…1e6, got {self.thresholds}")
        check_device_name(self.training.device)
        FASConfig(**self.settings)
        if self.step == "finetune" and (self.text is None) == (self.task is None):
            raise ValueError("give either --task or --text, what is to be trained on")
        if self.step == "pretrain" and self.model is not None and self.text is None:
            raise ValueError("give --text, a file to train on")
        if self.task is None and (self.data is not None or self.rows is not None):
            raise ValueError("--data and --rows belong to --task: leave them out")
        if self.task is not None and (self.evaluation is not None or self.objective is not None):
            raise ValueError("--evaluation and --objective belong to --text: leave them out")

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        named = (self.model and Path(self.model), self.text, self.evaluation, self.data)
        return [path for path in named if isinstance(path, Path)]

    @property
    def unfinished(self) -> Path:
        """Where checkpoints lie until the training is done."""
        return self.output.with_name(f"{self.output.name}.unfinished")

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that the course of the training depends on, as far as it was asked for."""
        names = ("window", "max_length", "mask_rate", "thresholds", "rows", "objective")
        asked = {name: getattr(self, name) for name in ("step", "task", *names)}
        return asked | self.training.to_dict() | {f"settings_{name}": value for name, value in self.settings.items()}


def parse_step(
    step: str, arguments: list[str] | None, does: str, defaults: dict[str, Any], add: Callable[[OneLineParser], None]
) -> FasRequest:
    """Read the command line of a step, which ends the command where it is wrong.

    Args:
        step: its name.
        arguments: of the command line.
        does: what the step does.
        defaults: of the training settings, for this step.
        add: adds the options of the data.
    """
    parser = OneLineParser(f"fas {step}", does)
    add(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--restart", action="store_true", help="forget the checkpoints of an unfinished training")
    _add_network(parser)
    _add_training(parser, TrainingSettings(**defaults))
    return parser.request(arguments, lambda given: _request(step, defaults | given))


def _request(step: str, given: dict[str, Any]) -> FasRequest:
    training = {name: given.pop(name) for name in _names(TrainingSettings) & given.keys()}
    settings = {name: given.pop(name) for name in _names(FASConfig) & given.keys()}
    settings["seed"] = training.get("seed", 0)
    return FasRequest(step=step, training=TrainingSettings(**training), settings=settings, **given)


def _names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def add_text(parser: OneLineParser) -> None:
    """Add the options of language modelling."""
    parser.add_argument("--evaluation", type=Path, metavar="FILE", help="held-out text (the last part of --text)")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), help="masked of encoders, causal of decoders")
    parser.add_argument("--window", type=int, metavar="N", help="tokens of a row of text (128)")
    parser.add_argument("--mask-rate", type=float, metavar="R", help="share of tokens hidden from encoders (0.15)")
    parser.add_argument("--evaluation-tokens", type=int, metavar="N", help="held-out tokens to measure (8192)")


def task_named(name: str) -> str:
    """The task of GLUE of a name, in any spelling."""
    plain = name.lower().replace("-", "").replace("_", "")
    return _LOWER.get(plain, name)


def _add_network(parser: OneLineParser) -> None:
    group = parser.add_argument_group("the network")
    group.add_argument("--levels", type=int, metavar="L", help="of activations (8, or the checkpoint's)")
    group.add_argument("--time-steps", type=int, metavar="T", help="of the SNN that is measured (4, likewise)")
    group.add_argument("--percentile", type=float, metavar="P", help="of inputs, where thresholds begin (99.9)")
    group.add_argument("--thresholds", type=float, metavar="R", help="that all sites begin with, instead")


def _add_training(parser: OneLineParser, default: TrainingSettings) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, metavar="N", help="times that each row is seen (1)")
    group.add_argument("--steps", type=int, metavar="N", help="of the optimiser, instead of epochs")
    group.add_argument("--batch-size", type=int, metavar="N", help=f"rows of a call ({default.batch_size})")
    group.add_argument("--accumulation", type=int, metavar="N", help="calls of a step (1)")
    group.add_argument(
        "--learning-rate", type=float, metavar="R", help=f"falls to zero linearly ({default.learning_rate:g})"
    )
    group.add_argument(
        "--threshold-learning-rate", type=float, metavar="R", help=f"likewise ({default.threshold_learning_rate:g})"
    )
    group.add_argument("--weight-decay", type=float, metavar="R", help="of weight matrices (0)")
    group.add_argument("--save-steps", type=int, metavar="N", help="steps between checkpoints (200)")
    group.add_argument("--precision", choices=PRECISIONS, help="of calls; thresholds stay fp32 (float32)")
    group.add_argument("--seed", type=int)
    group.add_argument("--device", choices=("cpu", "cuda"))


def texts_of(paths: Iterable[Path | None]) -> list[str]:
    """Names of files, for a report."""
    return [str(path) for path in paths if path is not None]
