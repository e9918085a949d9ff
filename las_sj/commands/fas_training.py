"""What the training steps of `las-sj fas` have in common: load, convert, train, measure, write."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from las_sj.checkpoint.loading import default_model
from las_sj.checkpoint.sample import save_sample
from las_sj.checkpoint.tokenizer import load_tokenizer
from las_sj.commands.command_line import Unfinished
from las_sj.commands.devices import check_device
from las_sj.commands.fas_data import read_data
from las_sj.commands.fas_request import FasRequest
from las_sj.data.output_folder import TRAINING, check_output, whole_folder
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.glue import TASKS
from las_sj.extras import require_extra
from las_sj.fas_config import FASConfig
from las_sj.training.classification import classes_of_another_task, head_options
from las_sj.training.curve import plot_losses
from las_sj.training.errors import CheckpointError, TrainingError
from las_sj.training.language import class_for
from las_sj.training.material import Material
from las_sj.training.report import TrainingReport
from las_sj.training.start import Start, read_start
from las_sj.training.thresholds import set_thresholds, thresholds_in
from las_sj.training.train import train
from las_sj.training.unfinished import TRAINING as UNFINISHED
from las_sj.training.unfinished import last_checkpoint, unfinished_training

PICTURE = "losses.png"
WRITTEN = f"{TRAINING.report}, {PICTURE}"


@dataclass(frozen=True)
class _Loaded:
    """What a step begins with, all of it read."""

    start: Start
    thresholds: Mapping[str, Tensor]
    config: FASConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    material: Material
    head_of: list[str]

    @property
    def architecture(self) -> str:
        return type(self.model).__name__

    @property
    def is_new_head(self) -> bool:
        """Whether the checkpoint is of another class, so that what it lacks is random."""
        return self.start.architecture != self.architecture

    @property
    def has_its_head(self) -> bool:
        """Whether the checkpoint has a head for the data, whose quality at the beginning tells something."""
        return not self.is_new_head and not self.head_of


def run_step(request: FasRequest) -> None:
    """Train as asked, and write the output folder.

    Args:
        request: the step.

    Raises:
        ValueError, OSError, RuntimeError: something is wrong with the data, the model or the machine.
    """
    check_device(request.training.device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("a training runs in one process: start it without a launcher of several")
    require_extra("glue", "accelerate", "datasets", "scipy", "sklearn")
    check_output(request.output, request.overwrite, TRAINING, request.inputs)
    if not request.restart:
        UNFINISHED.check(request.unfinished, request.fingerprint)
    loaded = _load(request)
    report = _trained(request, loaded)
    print(f"{report.summary()}\nWritten to {request.output}: config.json, model.safetensors, tokenizer, {WRITTEN}")


def _load(request: FasRequest) -> _Loaded:
    """Read the data first, then the model: what is wrong with the data is found at once."""
    start = read_start(request.model or str(default_model()))
    if request.thresholds is not None and start.settings is not None:
        raise TrainingError(f"{start.name} has thresholds, which are gone on with: leave out --thresholds")
    training = request.training
    config = start.settings_with(request.settings)
    data = read_data(request.data, start.config, start.name, training.seed)
    thresholds = start.thresholds()
    tokenizer = load_tokenizer(start.name)
    set_seed(training.seed)  # a new head is random
    if data.objective is None:
        task = TASKS[str(request.data.task)]
        options, head_of = head_options(task, tokenizer), classes_of_another_task(start.config, task)
        head_of = head_of if start.is_classifier else []
        model = start.load(AutoModelForSequenceClassification, training.device, **options)
    else:
        head_of = []
        model = start.load(class_for(start.config, data.objective), training.device)
    material = data.material(model, tokenizer, training.batch_size)
    return _Loaded(start, thresholds, config, model, tokenizer, material, head_of)


def _trained(request: FasRequest, loaded: _Loaded) -> TrainingReport:
    """Convert, train and write; what is cut off meanwhile can be gone on with."""
    start, model, material = loaded.start, loaded.model, loaded.material
    config = loaded.config
    # Weights that were trained with quantised activations are nobody's with others.
    before = material.measure(model) if loaded.has_its_head and start.settings is None else {}
    first = material.first_batches(request.training.batch_size)
    taken = start.convert(model, config, first, loaded.thresholds)
    if request.thresholds is not None:
        set_thresholds(model, request.thresholds)
    thresholds = thresholds_in(model)
    before |= material.measure(model) if loaded.has_its_head else {}
    known = request.fingerprint | {"model": digest_of(model.state_dict()), "data": material.digest()}
    with unfinished_training(request.unfinished, known, request.restart) as kept, _kept(kept.folder):
        course = train(model, material, request.training, kept.folder, kept.checkpoint())
        report = TrainingReport(
            step=request.step,
            model=start.name,
            architecture=loaded.architecture,
            new_head=loaded.is_new_head,
            head_of=loaded.head_of,
            config=config,
            training=request.training,
            data=material.facts,
            before=before,
            after=material.measure(model),
            thresholds_before=thresholds,
            thresholds_after=thresholds_in(model),
            taken=taken,
            course=course,
        )
        _write(request, loaded, report)
        kept.remove()
    return report


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Errors that end a training before its time say what there is to go on with."""
    try:
        yield
    except BaseException as error:
        checkpoint = last_checkpoint(folder)
        if checkpoint is None or isinstance(error, CheckpointError):
            raise
        if isinstance(error, TrainingError):  # the same command would end there again
            error.add_note(f"{checkpoint.name} is kept in {folder}: other settings need --restart too")
            raise
        kept = f"{checkpoint.name} is kept in {folder}, the same command goes on"
        if isinstance(error, KeyboardInterrupt):
            raise Unfinished(kept) from None
        error.add_note(kept)
        raise


def _write(request: FasRequest, loaded: _Loaded, report: TrainingReport) -> None:
    content = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    with whole_folder(request.output, request.overwrite, TRAINING, request.inputs) as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        save_sample(loaded.material.held_out, folder)
        (folder / TRAINING.report).write_text(content, encoding="utf-8")
        title = f"{report.step} of {report.architecture}"
        plot_losses(report.course.losses, title).savefig(folder / PICTURE, dpi=130)
