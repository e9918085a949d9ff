"""What the steps of `las-sj fas` train and measure on: a text, or a task of GLUE."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from las_sj.checkpoint.loading import default_model
from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.data.text import longest_sequence, read_text, split_held_out, tokens_known
from las_sj.evaluation.glue import TASKS, read_glue
from las_sj.training.classification import glue_material
from las_sj.training.language import OBJECTIVES, language_material, objective_of
from las_sj.training.material import Material

HELD_OUT = 0.1  # of a text that comes without another to measure on
_LOWER = {task.lower().replace("-", ""): task for task in TASKS}  # sst2, mrpc, … as on the hub


@dataclass(frozen=True)
class DataRequest:
    """A text, or a task of GLUE; neither is the default model's text.

    Attributes:
        text: to train on.
        evaluation: held-out text; None is the last part of `text`.
        objective: "causal" or "masked"; None leaves it to the model.
        window: tokens of a row of text.
        mask_rate: share of tokens that are hidden from an encoder.
        evaluation_tokens: of held-out text that are measured.
        task: of GLUE.
        data: folder of GLUE; None reads from the hub.
        rows: of the task to train on, drawn at random; None is all.
        max_length: tokens of a row of a task; longer texts are cut.

    Raises:
        ValueError: a number is out of its range, or options do not go together.
    """

    text: Path | None = None
    evaluation: Path | None = None
    objective: str | None = None
    window: int = 128
    mask_rate: float = 0.15
    evaluation_tokens: int = 8192
    task: str | None = None
    data: Path | None = None
    rows: int | None = None
    max_length: int = 128

    def __post_init__(self) -> None:
        at_least("window", self.window, 8)
        at_least("max_length", self.max_length, 4)
        at_least("evaluation_tokens", self.evaluation_tokens, 8)
        at_least("rows", self.rows, 1)
        if not 0 < self.mask_rate < 1:
            raise ValueError(f"mask_rate must lie between 0 and 1, got {self.mask_rate}")
        if self.task is not None and self.text is not None:
            raise ValueError("give either --task or --text: one thing is trained on at a time")
        if self.task is None and (self.data is not None or self.rows is not None):
            raise ValueError("--data and --rows belong to --task: leave them out")
        if self.task is not None and (self.evaluation is not None or self.objective is not None):
            raise ValueError("--evaluation and --objective belong to --text: leave them out")

    @property
    def inputs(self) -> list[Path]:
        """Files and folders that are read."""
        return [path for path in (self.text, self.evaluation, self.data) if path is not None]

    def fingerprint(self) -> dict[str, Any]:
        """What rows depend on, but for the content of files."""
        names = ("task", "objective", "window", "mask_rate", "rows", "max_length")
        return {name: getattr(self, name) for name in names}


def add_text(parser: OneLineParser) -> None:
    """Add the options of language modelling."""
    group = parser.add_argument_group("a text")
    group.add_argument("--text", type=Path, metavar="FILE", help="to train a model of language on")
    group.add_argument("--evaluation", type=Path, metavar="FILE", help="held-out text (the last part of --text)")
    group.add_argument("--objective", choices=tuple(OBJECTIVES), help="masked of encoders, causal of decoders")
    group.add_argument("--window", type=int, metavar="N", help="tokens of a row of text (128)")
    group.add_argument("--mask-rate", type=float, metavar="R", help="share of tokens hidden from encoders (0.15)")
    group.add_argument("--evaluation-tokens", type=int, metavar="N", help="held-out tokens to measure (8192)")


def add_task(parser: OneLineParser) -> None:
    """Add the options of a task."""
    group = parser.add_argument_group("a task")
    group.add_argument("--task", type=task_named, choices=TASKS, help="of GLUE")
    group.add_argument("--data", type=Path, metavar="FOLDER", help="holds SST-2/train.tsv, … (the hub's GLUE)")
    group.add_argument("--rows", type=int, metavar="N", help="of the task to train on, drawn at random (all)")
    group.add_argument("--max-length", type=int, metavar="N", help="tokens; longer texts are cut (128)")


def task_named(name: str) -> str:
    """The task of GLUE of a name, in any spelling."""
    return _LOWER.get(name.lower().replace("-", "").replace("_", ""), name)


@dataclass(frozen=True)
class DataRead:
    """Data, read before the model is loaded, so that what is wrong with it is found at once.

    Attributes:
        request: what was asked for.
        parts: texts or rows to train on, and held out.
        facts: where they come from.
        objective: of language modelling; None of a task.
    """

    request: DataRequest
    parts: tuple[Any, Any]
    facts: dict[str, Any]
    objective: str | None

    def material(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Material:
        """The data as a model takes it.

        Args:
            model: the model.
            tokenizer: of it.
            batch_size: rows of a call that is measured.

        Raises:
            TextError, TrainingError: a text is too short, or the tokenizer is not that of the model.
        """
        asked, longest = self.request, longest_sequence(model.config)
        shared: dict[str, Any] = {"known": tokens_known(model), "batch_size": batch_size, "facts": self.facts}
        if self.objective is None:
            length = min(asked.max_length, tokenizer.model_max_length, longest or asked.max_length)
            return glue_material(TASKS[str(asked.task)], tokenizer, self.parts, max_length=length, **shared)
        return language_material(
            tokenizer,
            self.parts,
            self.objective,
            window=min(asked.window, longest or asked.window),
            mask_rate=asked.mask_rate,
            held_out_tokens=asked.evaluation_tokens,
            **shared,
        )


def read_data(request: DataRequest, config: PretrainedConfig, name: str, seed: int) -> DataRead:
    """Read a text, or a task.

    Args:
        request: what is asked for.
        config, name: of the model.
        seed: of the rows that are drawn.

    Raises:
        TextError, GlueError, TrainingError: a file cannot be used, or the model is not for it.
    """
    if request.task is not None:
        train, dev = (read_glue(TASKS[request.task], split, request.data) for split in ("train", "dev"))
        if request.rows is not None:
            train = train.shuffle(seed).select(range(min(request.rows, len(train))))
        source = "the hub's GLUE" if request.data is None else str(request.data)
        return DataRead(request, (train, dev), {"data": source, "dev": dev.info.description}, None)
    objective = objective_of(config, name, request.objective)
    text, evaluation = request.text, request.evaluation
    if text is None:
        text, evaluation = default_model() / "calibration.txt", evaluation or default_model() / "evaluation.txt"
    content = read_text(text)
    held_out = f"the last part of {text}" if evaluation is None else str(evaluation)
    parts = split_held_out(content, HELD_OUT) if evaluation is None else (content, read_text(evaluation))
    return DataRead(request, parts, {"text": str(text), "held_out": held_out}, objective)
