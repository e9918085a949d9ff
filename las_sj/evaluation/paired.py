"""A model and its spiking network, called with the same batch and timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device
from las_sj.data.text import check_ids, tokens_known
from las_sj.evaluation.errors import SourceError


@dataclass(frozen=True)
class Pair:
    """A model and its spiking network.

    Attributes:
        ann: the original.
        snn: the converted model, in the execution that is to be evaluated.
        tokenizer: of both; a processor for models that answer questions about images, `Processors`
            for those of images or of sound.
        ann_is: what the ANN is, in words, where it is not the original.
    """

    ann: PreTrainedModel
    snn: PreTrainedModel
    tokenizer: Any
    ann_is: str = ""

    def run(self, batch: Batch) -> tuple[Any, Any, dict[str, float]]:
        """Outputs of the ANN and of the SNN for a batch, and the seconds that each took.

        Raises:
            TextError: the model does not know a token.
            SourceError: an output is NaN, which no metric could tell from a number.
        """
        if "input_ids" in batch:
            check_ids(batch["input_ids"], tokens_known(self.ann))
        ann, snn, seconds = self.each(lambda model: model(**to_device(batch, input_device(model))))
        for name, output in (("ANN", ann), ("SNN", snn)):
            if bool(output.logits.isnan().any()):
                raise SourceError(f"the {name}'s outputs are NaN: check the model's weights, or use --dtype float32")
        return ann, snn, seconds

    @torch.no_grad()
    def each(self, call: Callable[[PreTrainedModel], Any]) -> tuple[Any, Any, dict[str, float]]:
        """What `call` returns for the ANN and for the SNN, and the seconds that each took."""
        outputs, seconds = [], {}
        for name, model in (("ann", self.ann), ("snn", self.snn)):
            start = time.perf_counter()
            outputs.append(call(model))
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name] = time.perf_counter() - start
        return outputs[0], outputs[1], {f"{name}_seconds": value for name, value in seconds.items()}
