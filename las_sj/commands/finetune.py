"""The command `python -m las_sj.finetune`: a real classifier to convert and measure. Needs the extra `glue`."""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from las_sj.commands.command_line import OneLineParser
from las_sj.data.output_folder import check_output, whole_folder
from las_sj.data.text import longest_sequence
from las_sj.evaluation.glue import TASKS, GlueTask, encode, predictions_of, read_glue, score
from las_sj.extras import require_extra

if TYPE_CHECKING:
    from datasets import Dataset

REPORT = "finetune.json"
SOURCE = "a fine-tuning"
SETTINGS = ("epochs", "batch_size", "learning_rate", "max_length", "device")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(prog="python -m las_sj.finetune", description="Fine-tune an encoder on a GLUE task.")
    parser.add_argument("model", help="hub name or folder, with or without a classification head")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds SST-2/train.tsv, … (the hub's GLUE)")
    parser.add_argument("--rows", type=int, default=8000, metavar="N", help="to train on, drawn at random (8000)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--learning-rate", type=float, default=5e-5, metavar="R", help="falls to zero linearly (5e-5)")
    parser.add_argument("--max-length", type=int, default=128, metavar="N", help="tokens; longer texts are cut (128)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args(arguments)


def main(argument_list: list[str] | None = None) -> None:
    """Fine-tune, score on the development split, and write the output folder."""
    arguments = parse_arguments(argument_list)
    require_extra("glue", "accelerate", "datasets", "scipy", "sklearn")
    _check(arguments)
    check_output(arguments.output, arguments.overwrite, REPORT, SOURCE)
    start = time.perf_counter()
    task = TASKS[arguments.task]
    train, dev = (read_glue(task, split, arguments.data) for split in ("train", "dev"))
    train = train.shuffle(arguments.seed).select(range(min(arguments.rows, len(train))))
    set_seed(arguments.seed)  # the head is random
    model, tokenizer = _load(arguments.model, task)
    longest = longest_sequence(model.config) or arguments.max_length
    length = min(arguments.max_length, tokenizer.model_max_length, longest)
    encoded_train, encoded_dev = (_checked(encode(task, rows, tokenizer, length), model) for rows in (train, dev))
    logits = _train(model, tokenizer, encoded_train, encoded_dev, arguments)
    value = score(task, predictions_of(task, logits), dev["label"])
    report = {
        "model": arguments.model,
        "task": task.name,
        "metric": task.metric,
        "value": value,
        "rows": {"train": len(train), "dev": len(dev)},
        "seed": arguments.seed,
        "settings": {name: getattr(arguments, name) for name in SETTINGS},
        "seconds": time.perf_counter() - start,
    }
    _write(arguments, model, tokenizer, report)
    print(f"{task.name} dev {task.metric}: {value:.4f} ({len(train)} rows trained on, {len(dev)} scored)")
    print(f"Written to {arguments.output}: config.json, model.safetensors, tokenizer, {REPORT}")


def _check(arguments: argparse.Namespace) -> None:
    """Raise on values out of range, before anything is read."""
    for name, least in (("rows", 1), ("epochs", 1), ("batch_size", 1), ("max_length", 4)):
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(arguments, name)}")
    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed must lie in 0…{2**32 - 1}, got {arguments.seed}")
    if not 0 < arguments.learning_rate < math.inf:
        raise ValueError(f"--learning-rate must be positive, got {arguments.learning_rate}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no such device")


def _load(name: str, task: GlueTask) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with a head for the task, in fp32, and its tokenizer."""
    quantisation = getattr(AutoConfig.from_pretrained(name), "quantization_config", None)
    if quantisation is not None:
        raise ValueError(f"{name} is quantised ({dict(quantisation).get('quant_method')}): give the original model")
    tokenizer = AutoTokenizer.from_pretrained(name)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one where it finds none
        raise OSError(f"no tokenizer in {name}")
    options: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    if task.labels:
        names = dict(enumerate(task.labels))
        options = {"id2label": names, "label2id": {label: index for index, label in names.items()}}
    model, info = AutoModelForSequenceClassification.from_pretrained(
        name, dtype=torch.float32, output_loading_info=True, **options
    )
    encoder = f"{model.base_model_prefix}."
    missing = [key for key in info["missing_keys"] if key.startswith(encoder) and "pooler" not in key]
    if missing:  # only the head, and the pooler of masked language models, may start at random
        raise OSError(f"the checkpoint of {name} lacks weights of {type(model).__name__}: {min(missing)}")
    return model, tokenizer


def _checked(encoded: "Dataset", model: PreTrainedModel) -> "Dataset":
    """The same rows, whose ids are within the model's vocabulary."""
    largest, known = max(max(ids) for ids in encoded["input_ids"]), model.config.vocab_size
    if largest >= known:
        raise ValueError(f"the tokenizer gives token {largest}, but the model knows {known} tokens: they do not match")
    return encoded


class _Progress(ProgressCallback):
    """The Trainer's bars, with the loss in the bar rather than on stdout."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if self.training_bar is not None and "loss" in logs:
            self.training_bar.set_postfix(loss=logs["loss"])

    def close(self) -> None:
        """Close the bars of a training that was cut short, lest they be drawn again after its last line."""
        for bar in (self.training_bar, self.prediction_bar):
            if bar is not None:
                bar.close()


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: "Dataset",
    dev: "Dataset",
    arguments: argparse.Namespace,
) -> Any:
    """Train `model` in place; its logits [N, C] on `dev`."""
    with tempfile.TemporaryDirectory() as scratch:  # the Trainer wants a folder, though it keeps no checkpoints
        trainer = Trainer(
            model,
            TrainingArguments(
                scratch,
                num_train_epochs=arguments.epochs,
                per_device_train_batch_size=arguments.batch_size,
                per_device_eval_batch_size=arguments.batch_size,
                learning_rate=arguments.learning_rate,
                seed=arguments.seed,
                use_cpu=arguments.device == "cpu",
                dataloader_pin_memory=arguments.device != "cpu",
                save_strategy="no",
                logging_steps=10,
                report_to="none",
                disable_tqdm=False,
            ),
            DataCollatorWithPadding(tokenizer),
            train,
            processing_class=tokenizer,
        )
        trainer.remove_callback(ProgressCallback)
        progress = _Progress()
        trainer.add_callback(progress)
        try:
            trainer.train()
            return trainer.predict(dev).predictions
        finally:
            progress.close()


def _write(
    arguments: argparse.Namespace, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, report: dict[str, Any]
) -> None:
    with whole_folder(arguments.output, arguments.overwrite, REPORT, SOURCE) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
