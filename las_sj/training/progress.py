"""The bars of the Trainer, in the manner of the commands."""

from typing import Any

from transformers import ProgressCallback


class Progress(ProgressCallback):
    """Bars of a training that go at the end, with the loss in the bar rather than on stdout."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Show the loss of the last steps."""
        if self.training_bar is not None and "loss" in logs:
            self.training_bar.set_postfix(loss=logs["loss"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Draw a bar that goes at the end, as those of the other commands do."""
        super().on_train_begin(args, state, control, **others)
        if self.training_bar is not None:
            self.training_bar.leave = False

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **others: Any
    ) -> None:
        """Draw a bar of the predictions, which goes at the end too."""
        super().on_prediction_step(args, state, control, eval_dataloader, **others)
        if self.prediction_bar is not None:
            self.prediction_bar.leave = False

    def close(self) -> None:
        """Close the bars of a training that was cut short, lest they be drawn again after its last line."""
        for bar in (self.training_bar, self.prediction_bar):
            if bar is not None:
                bar.close()
