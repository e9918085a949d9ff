"""What the training steps of `las-sj fas` are asked for."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from las_sj.commands.command_line import OneLineParser
from las_sj.commands.devices import check_device_name
from las_sj.commands.fas_data import DataRequest
from las_sj.fas_config import FASConfig
from las_sj.training.settings import PRECISIONS, TrainingSettings


@dataclass(frozen=True)
class FasRequest:
    """A training step.

    Attributes:
        step: "pretrain" or "finetune".
        output: folder to write.
        model: hub name or folder, plain or of the step before; None is the default model.
        data: to train and measure on.
        training: settings of the training.
        settings: fields of the `FASConfig` that were given; the others are the checkpoint's, or defaults.
        thresholds: that all sites begin with; None takes them from data.
        overwrite: whether the folder may be that of an earlier training.
        restart: whether checkpoints of an unfinished training are forgotten.

    Raises:
        ValueError: a number is out of its range, or something is missing.
    """

    step: str
    output: Path
    model: str | None = None
    data: DataRequest = field(default_factory=DataRequest)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    settings: dict[str, Any] = field(default_factory=dict)
    thresholds: float | None = None
    overwrite: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        if self.thresholds is not None and not 1e-6 <= self.thresholds <= 1e6:
            raise ValueError(f"thresholds must lie in 1e-6…1e6, got {self.thresholds}")
        check_device_name(self.training.device)
        FASConfig(**self.settings)
        if self.model is not None and self.data.text is None and self.data.task is None:
            raise ValueError("there is nothing to train on: give --text" + (", or --task" * (self.step == "finetune")))

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        return [*([] if self.model is None else [Path(self.model)]), *self.data.inputs]

    @property
    def unfinished(self) -> Path:
        """Where checkpoints lie until the training is done."""
        return self.output.with_name(f"{self.output.name}.unfinished")

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that the course of the training depends on, as far as it was asked for."""
        network = {f"settings_{name}": value for name, value in self.settings.items()}
        asked = {"step": self.step, "thresholds": self.thresholds}
        return asked | self.data.fingerprint() | self.training.to_dict() | network


def step_parser(step: str, does: str) -> OneLineParser:
    """A parser of a step, which knows where it writes.

    Args:
        step: its name.
        does: what the step does.
    """
    parser = OneLineParser(f"fas {step}", does)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    return parser


def parse_training(
    parser: OneLineParser, step: str, arguments: list[str] | None, defaults: dict[str, Any]
) -> FasRequest:
    """Read the command line of a training step, which ends the command where it is wrong.

    Args:
        parser: knows the model and the data.
        step: its name.
        arguments: of the command line.
        defaults: of the training settings, for this step.
    """
    parser.add_argument("--restart", action="store_true", help="forget the checkpoints of an unfinished training")
    _add_network(parser)
    _add_training(parser, TrainingSettings(**defaults))

    def make(given: dict[str, Any]) -> FasRequest:
        training = TrainingSettings(**defaults | part_of(TrainingSettings, given))
        settings = part_of(FASConfig, given) | {"seed": training.seed}
        data = DataRequest(**part_of(DataRequest, given))
        return FasRequest(
            **part_of(FasRequest, given) | {"step": step, "data": data, "training": training, "settings": settings}
        )

    return parser.request(arguments, make)


def part_of(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The options that are fields of a dataclass, with their values."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in given.items() if name in names}


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
