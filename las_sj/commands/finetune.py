"""The command `las-sj finetune`: a real classifier to convert and measure. Needs the extra `glue`."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from las_sj.checkpoint.loading import read_config
from las_sj.checkpoint.tokenizer import load_tokenizer
from las_sj.checkpoint.weights import check_finite, load_weights
from las_sj.commands.devices import check_device
from las_sj.commands.finetune_request import FinetuneRequest, parse_arguments
from las_sj.data.output_folder import FINE_TUNING, check_output, whole_folder
from las_sj.data.owned_folder import owned_folder
from las_sj.data.text import check_ids, longest_sequence, tokens_known
from las_sj.evaluation.glue import TASKS, GlueTask, encode, predictions_of, read_glue, score
from las_sj.extras import require_extra
from las_sj.training.classification import classes_of_another_task, head_options
from las_sj.training.progress import Progress
from las_sj.training.report import began_with

if TYPE_CHECKING:
    from datasets import Dataset

SETTINGS = ("epochs", "batch_size", "learning_rate", "max_length", "group_by_length", "device")


@dataclass(frozen=True)
class FinetuneReport:
    """What came of a fine-tuning.

    Attributes:
        request: what was asked for.
        task: of GLUE.
        value: the task's metric on the development split.
        rows: by split.
        seconds: that it took.
        head_of: names of the classes of another task, whose head it began with; empty otherwise.
    """

    request: FinetuneRequest
    task: GlueTask
    value: float
    rows: dict[str, int]
    seconds: float
    head_of: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The content of finetune.json."""
        return {
            "model": self.request.model,
            "task": self.task.name,
            "metric": self.task.metric,
            "value": self.value,
            "rows": self.rows,
            "seed": self.request.seed,
            "settings": {name: getattr(self.request, name) for name in SETTINGS},
            "head_of": self.head_of,
            "seconds": self.seconds,
        }

    def summary(self) -> str:
        """Lines for the terminal."""
        begun = f"{began_with(self.head_of)}\n" if self.head_of else ""
        rows = f"{self.rows['train']} rows trained on, {self.rows['dev']} scored"
        return f"{begun}{self.task.name} dev {self.task.metric}: {self.value:.4f} ({rows})"


def main(argument_list: list[str] | None = None) -> None:
    """Fine-tune, score on the development split, and write the output folder."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    require_extra("glue", "accelerate", "datasets", "scipy", "sklearn")
    check_output(request.output, request.overwrite, FINE_TUNING, request.inputs)
    start = time.perf_counter()
    task = TASKS[request.task]
    train, dev = (read_glue(task, split, request.data) for split in ("train", "dev"))
    train = train.shuffle(request.seed).select(range(min(request.rows, len(train))))
    set_seed(request.seed)  # the head is random
    model, tokenizer, head_of = _load(request.model, task)
    encoded_train, encoded_dev = (_encoded(request, task, rows, model, tokenizer) for rows in (train, dev))
    logits = _train(request, model, tokenizer, encoded_train, encoded_dev)
    value = score(task, predictions_of(task, logits), dev["label"])
    rows = {"train": len(train), "dev": len(dev)}
    report = FinetuneReport(request, task, value, rows, time.perf_counter() - start, head_of)
    _write(model, tokenizer, report)
    print(f"{report.summary()}\nWritten to {request.output}: config.json, model.safetensors, tokenizer, finetune.json")


def _load(name: str, task: GlueTask) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """The model with a head for the task, in fp32, its tokenizer, and the classes whose head it had, if of others."""
    config = read_config(name)
    quantisation = getattr(config, "quantization_config", None)
    if quantisation is not None:
        raise ValueError(f"{name} is quantised ({dict(quantisation).get('quant_method')}): give the original model")
    tokenizer = load_tokenizer(name)
    options = head_options(task, tokenizer)
    model = load_weights(AutoModelForSequenceClassification, name, new_head=True, dtype=torch.float32, **options)
    check_finite(model, name)
    is_classifier = type(model).__name__ in (config.architectures or [])
    return model, tokenizer, classes_of_another_task(config, task) if is_classifier else []


def _encoded(
    request: FinetuneRequest,
    task: GlueTask,
    rows: "Dataset",
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> "Dataset":
    """Rows as the model takes them, whose ids are within its vocabulary."""
    longest = longest_sequence(model.config) or request.max_length
    encoded = encode(task, rows, tokenizer, min(request.max_length, tokenizer.model_max_length, longest))
    check_ids(torch.tensor([max(ids) for ids in encoded["input_ids"]]), tokens_known(model))
    return encoded


def _train(
    request: FinetuneRequest,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: "Dataset",
    dev: "Dataset",
) -> Any:
    """Train `model` in place; its logits [N, C] on `dev`."""
    with owned_folder("las_sj_finetune_") as scratch:  # the Trainer wants a folder, though it keeps no checkpoints
        options = _training_arguments(request, scratch)
        trainer = Trainer(model, options, DataCollatorWithPadding(tokenizer), train, processing_class=tokenizer)
        trainer.remove_callback(ProgressCallback)
        progress = Progress()
        trainer.add_callback(progress)
        try:
            trainer.train()
            options.train_sampling_strategy = "random"  # which a prediction takes as the order of rows, too
            return trainer.predict(dev).predictions
        finally:
            progress.close()


def _training_arguments(request: FinetuneRequest, scratch: Path) -> TrainingArguments:
    return TrainingArguments(
        str(scratch),
        num_train_epochs=request.epochs,
        per_device_train_batch_size=request.batch_size,
        per_device_eval_batch_size=request.batch_size,
        learning_rate=request.learning_rate,
        seed=request.seed,
        train_sampling_strategy="group_by_length" if request.group_by_length else "random",
        use_cpu=request.device == "cpu",
        dataloader_pin_memory=request.device != "cpu",
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=False,
    )


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, report: FinetuneReport) -> None:
    request = report.request
    with whole_folder(request.output, request.overwrite, FINE_TUNING, request.inputs) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / FINE_TUNING.report).write_text(
            json.dumps(report.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8"
        )
