"""lm-eval's view of both models. Needs the extra `evaluate`, so that importing this module waits for its first use."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence

from las_sj.data.text import check_ids, tokens_known
from las_sj.evaluation.errors import ZeroShotError
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair

Part = Sequence[int]  # numbers of the requests of a batch
Answer = Callable[[Part], list[Any]]


class PairedLM(HFLM):
    """Runs both models on each batch of requests; `answer_as` says whose answers are given back.

    Args:
        pair: language models.
        journal: keeps finished batches.
        name: of the task.
        batch_size: requests.

    Attributes:
        records: answers and seconds of both models, batch by batch.
        batches: what the models were given: input_ids and attention_mask [B, S].
    """

    def __init__(self, pair: Pair, journal: Journal, name: str, batch_size: int) -> None:
        super().__init__(pretrained=pair.ann, tokenizer=pair.tokenizer, batch_size=batch_size)
        self.pair, self.journal, self.name, self.size = pair, journal, name, batch_size
        self.answer_as("ann")

    def answer_as(self, side: str) -> None:
        """Whose answers are given back, "ann" or "snn", from now on."""
        self.side, self.calls = side, 0
        self.records: list[Record] = []
        self.batches: list[dict[str, torch.Tensor]] = []

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: Any = None) -> Any:
        for _, context, wanted in requests:
            self._check_request(context, wanted)
        parts = self._parts_of(sorted(range(len(requests)), key=lambda index: -sum(map(len, requests[index][1:]))))
        self.batches += [padded([self._seen(*requests[i][1:]) for i in part]) for part in parts]
        parent: Any = super()
        return self._both(
            parts,
            [[requests[i][1:] for i in part] for part in parts],
            lambda part: parent._loglikelihood_tokens([requests[i] for i in part], disable_tqdm=True),
        )

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Continuations of the prompts in `requests`, in their order."""
        parts = self._parts_of(range(len(requests)))
        self.batches += [padded([self._prompt(*requests[i].args) for i in part]) for part in parts]
        parent: Any = super()
        return self._both(
            parts,
            [[requests[i].args for i in part] for part in parts],
            lambda part: parent.generate_until([requests[i] for i in part], disable_tqdm=True),
        )

    def _parts_of(self, order: Part) -> list[Part]:
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def _check_request(self, context: list[int], wanted: list[int]) -> None:
        """lm-eval only asserts these, or does not look."""
        check_ids(torch.tensor([*context, *wanted], dtype=torch.long), tokens_known(self.pair.ann))
        if not context or not wanted:
            raise ZeroShotError(f"{self.name} has a question or an answer without a token: look at its data")
        if len(wanted) > self.max_length:
            raise ZeroShotError(
                f"an answer of {self.name} has {len(wanted)} tokens, and {type(self.pair.ann).__name__} sees "
                f"{self.max_length}: leave it out (--limit), or take a model that sees more"
            )

    def _seen(self, context: list[int], wanted: list[int]) -> list[int]:
        """What the model is given of a request, as in HFLM: the end of what is too long."""
        return [*context, *wanted][-(self.max_length + 1) :][:-1]

    def _prompt(self, text: str, options: dict[str, Any]) -> list[int]:
        """The end of what is too long, with room for the answer."""
        room = self.max_length - options.get("max_gen_toks", self.max_gen_toks)
        tokens: list[int] = self.tok_encode(text)
        return tokens[-max(room, 1) :]

    def _both(self, parts: Sequence[Part], identities: Sequence[Any], answer: Answer) -> list[Any]:
        """Answers in the order of the requests."""

        def compute(index: int) -> Record:
            ann, snn, seconds = self.pair.each(lambda model: self._answers_of(model, answer, parts[index]))
            return {"ann": ann, "snn": snn, **seconds}

        self.calls += 1
        records = self.journal.collect(f"{self.name} {self.calls}", identities, compute)
        self.records += records
        answers: dict[int, Any] = {}
        for part, record in zip(parts, records, strict=True):
            answers |= zip(part, record[self.side], strict=True)
        return [_as_answer(answers[index]) for index in range(len(answers))]

    def _answers_of(self, model: Any, answer: Answer, part: Part) -> list[Any]:
        self._model = model
        try:
            return answer(part)
        finally:
            self._model = self.pair.ann


def _as_answer(record: Any) -> Any:
    """JSON has lists for tuples."""
    return tuple(record) if isinstance(record, list) else record


def padded(rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Rows of tokens as a batch, padded on the right: input_ids and attention_mask [B, S]."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    masks = [torch.ones_like(row) for row in ids]
    return {"input_ids": pad_sequence(ids, True), "attention_mask": pad_sequence(masks, True)}
