"""The Trainer of transformers, for networks of rate codes."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback

from las_sj.checkpoint.loading import load_converted
from las_sj.models.rate_coded.network import named_activations
from las_sj.training.errors import TrainingError
from las_sj.training.thresholds import check_thresholds
from las_sj.training.whole import Whole, mark_whole


class RateCodeTrainer(Trainer):
    """A Trainer that gives thresholds a learning rate of their own, and no weight decay.

    Its checkpoints hold safetensors, JSON, and states of the optimiser, the schedule and random numbers. Those are
    pickles, which torch opens with `weights_only`: tensors and plain values alone.

    Args:
        model: a network of rate codes.
        threshold_learning_rate: at the beginning.
        options: as of `Trainer`.

    Attributes:
        network: the model.
    """

    def __init__(self, model: PreTrainedModel, *, threshold_learning_rate: float, **options: Any) -> None:
        super().__init__(model, **options)
        self.network = model
        self.threshold_learning_rate = threshold_learning_rate

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser, with groups of weights that decay, of others, and of thresholds."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.network)
            self.optimizer = kind(self._groups(), **options)
        return self.optimizer

    def _groups(self) -> list[dict[str, Any]]:
        thresholds = {id(activation.theta): activation.theta for _, activation in named_activations(self.network)}
        decaying = set(self.get_decay_parameter_names(self.network))
        weights: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad and id(parameter) not in thresholds:
                weights[name in decaying].append(parameter)
        return [
            {"params": weights[True], "weight_decay": self.args.weight_decay},
            {"params": weights[False], "weight_decay": 0.0},
            {"params": [*thresholds.values()], "weight_decay": 0.0, "lr": self.threshold_learning_rate},
        ]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the model alone: the arguments of the training, which are a pickle, are not needed to go on."""
        self.network.save_pretrained(output_dir or str(self.args.output_dir), state_dict=state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load all weights and thresholds, by the names that they have in the model: nothing may be left out."""
        stored, _ = load_converted(Path(resume_from_checkpoint))
        self.network.load_state_dict(stored.state_dict())


class MarksWhole(TrainerCallback):
    """Marks each checkpoint once it is written to its end, with the seconds that the training took until then.

    Args:
        earlier: seconds until the checkpoint that the training goes on from.

    Attributes:
        has_begun: whether a step was made since then: what fails before has to do with the checkpoint.
    """

    def __init__(self, earlier: float) -> None:
        self.earlier = earlier
        self.start = time.perf_counter()
        self.has_begun = False

    @property
    def seconds(self) -> float:
        """Seconds of the training until now, with those before it was cut off."""
        return self.earlier + time.perf_counter() - self.start

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """See that a step is being made."""
        self.has_begun = True

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Mark the checkpoint of this step."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        mark_whole(folder, Whole(state.global_step, self.seconds))


class StaysSound(TrainerCallback):
    """Ends a training whose loss or thresholds have become useless."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **others: Any) -> None:
        """Look at the loss, and at thresholds."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise TrainingError(
                f"the loss is infinite or NaN after step {state.global_step}: train with a smaller --learning-rate"
            )
        check_thresholds(model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Look at thresholds."""
        check_thresholds(model)
