"""What `las-sj finetune` is asked for."""

import math
from dataclasses import dataclass
from pathlib import Path

from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device_name
from las_sj.evaluation.glue import TASKS


@dataclass(frozen=True)
class FinetuneRequest:
    """A fine-tuning.

    Attributes:
        model: hub name or folder.
        task: one of GLUE.
        output: folder to write.
        overwrite: whether the folder may be that of an earlier fine-tuning.
        data: folder of GLUE; None reads from the hub.
        rows: to train on, drawn at random.
        epochs: times that each is seen.
        batch_size: rows.
        learning_rate: at the beginning, from which it falls to zero linearly.
        max_length: tokens; longer texts are cut.
        group_by_length: whether rows of a batch have about the same length, which saves padding.
        seed: of the rows, the head and the training.
        device: "cpu" or "cuda".

    Raises:
        ValueError: a number is out of its range, or there is no such device.
    """

    model: str
    task: str
    output: Path
    overwrite: bool = False
    data: Path | None = None
    rows: int = 8000
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    max_length: int = 128
    group_by_length: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("rows", "epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        at_least("max_length", self.max_length, 4)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must lie in 0…{2**32 - 1}, got {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning-rate must be positive, got {self.learning_rate}")
        check_device_name(self.device)

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        return [Path(self.model), *([] if self.data is None else [self.data])]


def parse_arguments(arguments: list[str] | None = None) -> FinetuneRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser("finetune", "Fine-tune an encoder on a GLUE task.")
    parser.add_argument("model", help="hub name or folder, with or without a classification head")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds SST-2/train.tsv, … (the hub's GLUE)")
    parser.add_argument("--rows", type=int, metavar="N", help="to train on, drawn at random (8000)")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="falls to zero linearly (5e-5)")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens; longer texts are cut (128)")
    parser.add_argument("--group-by-length", action="store_true", help="rows of a batch are about as long: faster")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    return parser.request(arguments, lambda given: FinetuneRequest(**given))
