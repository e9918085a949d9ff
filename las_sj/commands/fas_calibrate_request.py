"""What `las-sj fas calibrate` is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from las_sj.commands.command_line import at_least
from las_sj.commands.devices import check_device_name
from las_sj.commands.fas_data import DataRequest, add_task, add_text
from las_sj.commands.fas_request import part_of, step_parser
from las_sj.fas_config import GRANULARITIES, MOST_STEPS
from las_sj.training.fine import FineSettings

SEARCHES = ("channel", "site", "none")


@dataclass(frozen=True)
class CalibrateRequest:
    """A calibration.

    Attributes:
        model: folder of step 2, or of step 1.
        output: folder to write.
        data: to calibrate and measure on.
        fine: settings of the fine calibration; no steps leave it out.
        search: whether thresholds and first potentials are searched for before, in the order of the sites: "channel"
            has one for each channel, "site" one for each site, "none" leaves it out.
        time_steps: T; None is the checkpoint's.
        batches: to calibrate on, a fifth of them to choose the step by.
        batch_size: rows of each.
        device: "cpu" or "cuda".
        overwrite: whether the folder may be that of an earlier training.

    Raises:
        ValueError: a number is out of its range, or something is missing.
    """

    model: Path
    output: Path
    data: DataRequest
    fine: FineSettings = field(default_factory=FineSettings)
    search: str = "channel"
    time_steps: int | None = None
    batches: int = 20
    batch_size: int = 8
    device: str = "cpu"
    overwrite: bool = False

    def __post_init__(self) -> None:
        at_least("time_steps", self.time_steps, 1, MOST_STEPS)
        at_least("batches", self.batches, 2)
        at_least("batch_size", self.batch_size, 1)
        check_device_name(self.device)
        if self.data.text is None and self.data.task is None:
            raise ValueError("there is nothing to calibrate on: give --text, or --task")
        if self.search not in SEARCHES:
            raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {self.search!r}")
        if self.search == "none" and self.fine.steps == 0:
            raise ValueError("--search none and --steps 0 leave nothing to do: leave out one of them")
        if self.search == "channel" and self.fine.granularity == "site" and self.fine.steps:
            raise ValueError("--search channel is finer than --granularity site: give --search site")

    @property
    def inputs(self) -> list[Path]:
        """Everything that is read, as far as it lies in files that were named."""
        return [self.model, *self.data.inputs]


def parse_arguments(arguments: list[str] | None = None) -> CalibrateRequest:
    """Read the command line, which ends the command where it is wrong."""
    does = "Step 3 of FAS: calibrate thresholds and first potentials of the neurons; weights stay as they are."
    parser = step_parser("calibrate", does)
    parser.add_argument("model", type=Path, help="folder that las-sj fas finetune or pretrain wrote")
    add_task(parser)
    add_text(parser)
    parser.add_argument("--time-steps", type=int, metavar="T", help="that it is calibrated for (the checkpoint's)")
    parser.add_argument("--granularity", choices=GRANULARITIES, help="one threshold for each (channel)")
    parser.add_argument("--search", choices=SEARCHES, help="before, for each (channel, or as --granularity)")
    parser.add_argument("--steps", type=int, metavar="N", help="of the fine calibration; 0 leaves it out (160)")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="in thresholds; falls to zero (0.01)")
    parser.add_argument("--kl-weight", type=float, metavar="R", help="of the outputs' KL divergence (1)")
    parser.add_argument("--alignment-weight", type=float, metavar="R", help="of the sites' errors (10)")
    parser.add_argument("--batches", type=int, metavar="N", help="to calibrate on (20)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="rows of each (8)")
    parser.add_argument("--seed", type=int, help="of the order of rows and batches")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    return parser.request(arguments, _request)


def _request(given: dict[str, Any]) -> CalibrateRequest:
    data = DataRequest(**part_of(DataRequest, given))
    fine = {"granularity": "channel"} | part_of(FineSettings, given)
    if fine.get("granularity") == "position":
        fine["positions"] = data.window if data.task is None else data.max_length  # at most: of the model, fewer
    if not 0 <= fine.get("seed", 0) < 2**32:
        raise ValueError(f"seed must lie in 0…{2**32 - 1}, got {fine['seed']}")
    search = "site" if fine.get("granularity") == "site" else "channel"
    own = {"search": search} | part_of(CalibrateRequest, given) | {"data": data, "fine": FineSettings(**fine)}
    return CalibrateRequest(**own)
