"""How a network of rate codes is trained."""

import math
from dataclasses import asdict, dataclass
from typing import Any

PRECISIONS = ("float32", "bfloat16", "float16")
_MOST = 2**31 - 1


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that the course of a training depends on, but for the model and the data.

    Attributes:
        learning_rate: of weights, at the beginning; it falls to zero linearly.
        threshold_learning_rate: likewise, of thresholds.
        weight_decay: of weight matrices; thresholds have none.
        epochs: times that each row is seen.
        steps: of the optimiser, instead of epochs.
        batch_size: rows of a call.
        accumulation: calls of a step.
        save_steps: steps between checkpoints, from which a training that was cut off goes on.
        precision: of calls; weights and thresholds are fp32 always.
        seed: of the order of rows, masks and dropout.
        device: "cpu" or "cuda".

    Raises:
        ValueError: a setting is out of its range; the message begins with its name.
    """

    learning_rate: float = 5e-5
    threshold_learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    save_steps: int = 200
    precision: str = "float32"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "save_steps", "steps"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _MOST:
                raise ValueError(f"{name} must lie in 1…{_MOST}, got {value}")
        for name in ("learning_rate", "threshold_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"weight_decay must lie in [0, 1), got {self.weight_decay}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0…{2**32 - 1}, got {self.seed}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.precision == "float16" and self.device == "cpu":
            raise ValueError("precision float16 is for GPUs: use bfloat16, or --device cuda")

    def steps_for(self, rows: int) -> int:
        """Steps of a training on that many rows."""
        return self.steps or math.ceil(self.epochs * rows / self.rows_of_step)

    @property
    def rows_of_step(self) -> int:
        """Rows that a step of the optimiser sees."""
        return self.batch_size * self.accumulation

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
