"""A training of a network of rate codes, from its beginning or from its last checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers import PreTrainedModel, ProgressCallback, TrainingArguments, set_seed

from las_sj.models.execution import running
from las_sj.reasons import reason_of
from las_sj.training.errors import CheckpointError
from las_sj.training.material import Material
from las_sj.training.progress import Progress
from las_sj.training.rows import TrainingRows
from las_sj.training.settings import TrainingSettings
from las_sj.training.trainer import MarksWhole, RateCodeTrainer, StaysSound
from las_sj.training.whole import read_whole

LOGGED = 200  # points of a curve of losses


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        steps: of the optimiser.
        losses: step, and mean loss since the one before.
        seconds: that it took, with those before it was cut off.
        resumed_from: the step that it went on from; None from its beginning.
    """

    steps: int
    losses: tuple[tuple[int, float], ...]
    seconds: float
    resumed_from: int | None


def train(
    model: PreTrainedModel, material: Material, settings: TrainingSettings, folder: Path, checkpoint: Path | None
) -> Course:
    """Train the accumulated execution of a network of rate codes, in place: weights and thresholds.

    On a CPU a training that goes on from a checkpoint ends with the very weights that it would have had anyway.

    Args:
        model: a network of rate codes.
        material: to train on.
        settings: of the training.
        folder: for checkpoints.
        checkpoint: to go on from; None begins.

    Raises:
        TrainingError: the loss or a threshold becomes useless.
        CheckpointError: the checkpoint is not as it was saved, or cannot be read.
    """
    whole = None if checkpoint is None else read_whole(checkpoint)
    steps = settings.steps_for(len(material.rows))
    together = settings.rows_of_step
    rows = TrainingRows(
        material.rows, steps * together, settings.seed, material.change, together if material.grouped else None
    )
    marks = MarksWhole(0.0 if whole is None else whole.seconds)
    progress = Progress()
    trainer = RateCodeTrainer(
        model,
        threshold_learning_rate=settings.threshold_learning_rate,
        args=_arguments(settings, steps, folder),
        data_collator=material.collate,
        train_dataset=rows,
        callbacks=[marks, StaysSound()],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(progress)
    set_seed(settings.seed)
    try:
        with running(model, "accumulated"):
            _run(trainer, marks, checkpoint)
    finally:
        progress.close()
    model.eval()
    losses = tuple((int(entry["step"]), entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    return Course(steps, losses, marks.seconds, None if whole is None else whole.step)


def _run(trainer: RateCodeTrainer, marks: MarksWhole, checkpoint: Path | None) -> None:
    if checkpoint is None:
        trainer.train()
        return
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    except Exception as error:  # what reads broken states raises whatever it comes upon
        if marks.has_begun:
            raise
        reason = "its states are no plain tensors" if isinstance(error, UnpicklingError) else reason_of(error)
        raise CheckpointError(f"{checkpoint} cannot be gone on from ({reason}): --restart begins anew") from error


def _arguments(settings: TrainingSettings, steps: int, folder: Path) -> TrainingArguments:
    options: dict[str, Any] = {"bf16": settings.precision == "bfloat16", "fp16": settings.precision == "float16"}
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        train_sampling_strategy="sequential",  # `TrainingRows` has the order
        use_cpu=settings.device == "cpu",
        dataloader_pin_memory=settings.device != "cpu",
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,  # the last is not marked whole before others go
        logging_steps=max(1, steps // LOGGED),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=False,
        **options,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several would be DataParallel, whose replicas share no thresholds
    return arguments
