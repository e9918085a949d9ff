"""Language modelling: perplexity and bits per byte of a text, in windows with a stride."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.data.batches import Batch
from las_sj.data.modalities import modalities_of
from las_sj.data.paths import check_regular
from las_sj.data.text import TextError, is_language_model, longest_sequence
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import Measure, TaskResult, measure
from las_sj.extras import require_extra
from las_sj.usage import UsageError

ROWS = 512  # of logits at a time in fp64: a table of [B, S, vocabulary] in fp64 would be the largest tensor of all

TOKEN, WORD, BYTE = "perplexity per token", "perplexity per word", "bits per byte"


@dataclass(frozen=True)
class TextTask:
    """A text to predict.

    Attributes:
        name: of the task.
        files: where it lies in a folder of data, the first that exists.
        hub: dataset and configuration on the hub, whose test split is taken; empty if it is not there.
        metrics: in the order in which they are reported.
    """

    name: str
    files: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    metrics: tuple[str, ...] = (TOKEN, WORD, BYTE)


TEXT_TASKS = {
    task.name: task
    for task in (
        TextTask("wikitext2", ("wikitext-2-raw/wiki.test.raw",), ("Salesforce/wikitext", "wikitext-2-raw-v1")),
        TextTask("wikitext103", ("wikitext-103-raw/wiki.test.raw",), ("Salesforce/wikitext", "wikitext-103-raw-v1")),
        TextTask("enwik8", ("enwik8/enwik8", "enwik8/enwik5"), metrics=(BYTE, TOKEN, WORD)),
        TextTask("text"),
    )
}


@dataclass(frozen=True)
class Window:
    """Inputs ids[start : end − 1] of a text, which predict ids[first : end].

    Attributes:
        start, first, end: as above; start < first.
        characters: that the predicted tokens cover, from … to.
    """

    start: int
    first: int
    end: int
    characters: tuple[int, int]


def text_of(task: TextTask, folder: Path | None, file: Path | None) -> tuple[str, str]:
    """The text of a task, and where it comes from.

    Args:
        task: one of `TEXT_TASKS`.
        folder: of data, or None for the hub.
        file: of the task "text", which has no other.

    Raises:
        TextError: it cannot be read.
        UsageError: an option that says where it is was left out.
    """
    if not task.files:
        if file is None:
            raise UsageError(f"{task.name} needs --text FILE")
        return read_file(file), file.name
    if folder is not None:
        found = [folder / name for name in task.files if (folder / name).exists()]
        if not found:
            raise TextError(f"{folder} has no {' or '.join(task.files)}: give another --data-dir")
        return read_file(found[0]), found[0].name
    if not task.hub:
        raise UsageError(f"{task.name} is not on the hub as text: give --data-dir with {' or '.join(task.files)}")
    require_extra("evaluate", "datasets")
    from datasets import load_dataset

    try:
        rows = load_dataset(*task.hub, split="test")
    except (OSError, ValueError) as error:
        raise TextError(f"cannot read {task.name} from the hub, give --data-dir: {error}") from None
    return "".join(rows["text"]), "/".join(task.hub)


def read_file(path: Path) -> str:
    """A text, byte for byte; its last character may be cut off, as samples of a number of bytes are.

    Raises:
        TextError: it cannot be read, or is empty.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise TextError(f"cannot read text from {path} ({error.strerror}): give a file of UTF-8 text") from None
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:
            raise TextError(f"{path} is not UTF-8 text: byte {error.start}, give another file") from None
        text = content[: error.start].decode("utf-8")
    if not text.strip():
        raise TextError(f"{path} is empty: give a file with text")
    return text


def windows_of(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], length: int, window: int, stride: int
) -> list[Window]:
    """Windows that predict each token but the first once.

    Args:
        ids: of the whole text.
        offsets: the characters that each token covers.
        length: of the text, in characters.
        window: tokens that the model sees at most.
        stride: tokens that each window predicts.
    """
    firsts = range(1, len(ids), stride)
    ends = [*firsts[1:], len(ids)]
    borders = [*(offsets[first][0] for first in firsts), length]
    return [
        Window(max(0, end - 1 - window), first, end, (borders[index], borders[index + 1]))
        for index, (first, end) in enumerate(zip(firsts, ends, strict=True))
    ]


@dataclass(frozen=True)
class PreparedText:
    """A text in batches of windows.

    Attributes:
        ids: its tokens.
        batches: windows of the same shape together.
        counts: tokens, words and bytes that each window predicts, by metric.
        description: in words.
    """

    ids: list[int]
    batches: list[list[Window]]
    counts: dict[str, np.ndarray]
    description: str

    @property
    def tokens(self) -> int:
        """How many are predicted."""
        return int(self.counts[TOKEN].sum())

    def inputs(self, index: int) -> Batch:
        """What the models are given."""
        return {"input_ids": torch.tensor([self.ids[w.start : w.end - 1] for w in self.batches[index]])}

    def identity(self, index: int) -> tuple[Tensor, Tensor]:
        """What the record of a batch depends on."""
        return self.inputs(index)["input_ids"], self.targets(index)

    def targets(self, index: int) -> Tensor:
        """What the last of them are to predict, [B, N]."""
        return torch.tensor([self.ids[w.first : w.end] for w in self.batches[index]])


def prepare_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: tuple[str, str],
    window: int,
    stride: int | None,
    batch_size: int,
    limit: int | None,
) -> PreparedText:
    """Cut a text into windows.

    Args:
        model: a language model.
        tokenizer: of the model.
        text: as `text_of` returns.
        window, stride: in tokens, see `windows_of`; a stride of None is half the window, and the window is cut to
            what the model sees at most.
        batch_size: windows.
        limit: tokens, the first ones; None for all.

    Raises:
        TextError: the model predicts no tokens, its window is shorter than the stride, or the text is too short.
    """
    window, stride = sizes_of(model, window, stride)
    content, source = text
    ids, offsets, content = _tokens(tokenizer, content, limit)
    windows = windows_of(ids, offsets, len(content), window, stride)
    description = (
        f"{source}, {len(ids):,} tokens, each but the first predicted once, windows of {window} tokens with a stride "
        f"of {stride}; words are what white space separates"
    )
    return PreparedText(ids, _batches(windows, batch_size), _counts(content, windows), description)


def sizes_of(model: PreTrainedModel, window: int, stride: int | None) -> tuple[int, int]:
    """Window and stride of a model, in tokens; arguments and errors as of `prepare_text`."""
    if not is_language_model(model):
        other = ": text_to_text is the task for it" if modalities_of(type(model)).decoder else ""
        raise TextError(f"{type(model).__name__} does not predict the next token, as this task needs{other}")
    window = min(window, longest_sequence(model.config) or window)
    stride = max(window // 2, 1) if stride is None else stride
    if stride > window:
        raise TextError(f"a stride of {stride} tokens leaves some out: {type(model).__name__} sees {window}")
    return window, stride


def _batches(windows: Sequence[Window], size: int) -> list[list[Window]]:
    """Windows in a row that have the same shape."""
    batches: list[list[Window]] = []
    for window in windows:
        shape = (window.end - window.start, window.end - window.first)
        last = batches[-1][0] if batches else None
        if last and len(batches[-1]) < size and shape == (last.end - last.start, last.end - last.first):
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


def evaluate_text(task: TextTask, pair: Pair, journal: Journal, text: PreparedText, seed: int) -> TaskResult:
    """Perplexity and bits per byte of both models.

    Args:
        task: one of `TEXT_TASKS`.
        pair: language models.
        journal: keeps finished batches.
        text: as `prepare_text` returns.
        seed: of the bootstrap, whose rows are windows.
    """

    def compute(index: int) -> Record:
        ann, snn, seconds = pair.run(text.inputs(index))
        targets = text.targets(index)
        losses = {"ann": losses_of(ann.logits, targets), "snn": losses_of(snn.logits, targets)}
        return losses | {"agreements": agreements_of(ann.logits, snn.logits, targets)} | seconds

    numbers = range(len(text.batches))
    records = journal.collect(task.name, [text.identity(index) for index in numbers], compute)
    losses = [np.concatenate([record[side] for record in records]) for side in ("ann", "snn")]
    costs = costs_of(pair, [text.inputs(index) for index in numbers], journal, task.name, records)
    return TaskResult(
        task=task.name,
        description=text.description,
        rows=text.tokens,
        unit="tokens",
        measures=[measure_text(name, losses, text.counts[name], seed) for name in task.metrics],
        agreement=sum(record["agreements"] for record in records) / text.tokens,
        **costs,
    )


def _tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, limit: int | None
) -> tuple[list[int], list[tuple[int, int]], str]:
    """Ids, the characters that each covers, and the text that they are of."""
    if not tokenizer.is_fast:
        raise TextError(
            f"{type(tokenizer).__name__} does not say which characters a token covers: it is not a fast one"
        )
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if limit is not None and limit < len(ids):
        text = text[: offsets[limit][0]]
        ids, offsets = ids[:limit], offsets[:limit]
    if len(ids) < 2:
        raise TextError("fewer than two tokens, of which the first is not predicted: give more text or a higher limit")
    return ids, offsets, text


def losses_of(logits: Tensor, targets: Tensor) -> list[float]:
    """Negative log likelihood of each row, nats.

    Args:
        logits: [B, S, V].
        targets: the tokens that follow the last ones, [B, N].
    """
    kept = logits[:, logits.shape[1] - targets.shape[1] :]
    return [_loss(row, wanted) for row, wanted in zip(kept, targets.to(logits.device), strict=True)]


def agreements_of(ann: Tensor, snn: Tensor, targets: Tensor) -> int:
    """How often both would say the same token, of those predicted."""
    first = ann.shape[1] - targets.shape[1]
    return int((ann[:, first:].argmax(-1) == snn[:, first:].argmax(-1)).sum())


def _loss(logits: Tensor, targets: Tensor) -> float:
    """Summed over the rows [N, V], in fp64."""
    parts: Iterator[tuple[Tensor, Tensor]] = zip(logits.split(ROWS), targets.split(ROWS), strict=True)
    return sum(float(F.cross_entropy(part.double(), wanted, reduction="sum")) for part, wanted in parts)


def _counts(text: str, windows: Sequence[Window]) -> dict[str, np.ndarray]:
    """Tokens, words and bytes that each window predicts; a word belongs where it begins."""
    pieces = [text[slice(*window.characters)] for window in windows]
    before = [text[max(window.characters[0] - 1, 0) : window.characters[0]] for window in windows]
    words = [
        len(piece.split()) - bool(first and not first.isspace() and piece and not piece[0].isspace())
        for piece, first in zip(pieces, before, strict=True)
    ]
    return {
        TOKEN: np.array([window.end - window.first for window in windows]),
        WORD: np.array(words),
        BYTE: np.array([len(piece.encode()) for piece in pieces]),
    }


def measure_text(metric: str, losses: Sequence[np.ndarray], counts: np.ndarray, seed: int) -> Measure:
    """A metric from the losses of both models on each window."""

    def score(rows: np.ndarray) -> float:
        mean = rows[:, 0].sum() / max(rows[:, 1].sum(), 1)
        return mean / math.log(2) if metric == BYTE else float(np.exp(mean))

    return measure(metric, score, [np.stack([loss, counts], 1) for loss in losses], seed)
