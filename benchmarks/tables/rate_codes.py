"""FAS, QCFS, SRP and COS beside LAS, on models that were trained with quantised activations.

    python -m las_sj.finetune MODEL --task SST-2 --output ann-sst2            # the ANN
    python -m las_sj.fas pretrain MODEL --text FILE --output fas1             # FAS, step 1
    python -m las_sj.fas finetune fas1 --task SST-2 --output fas2-sst2        # step 2
    PYTHONPATH=benchmarks python benchmarks/tables/rate_codes.py ann-sst2 fas2-sst2 [--work DIR]
    PYTHONPATH=benchmarks python benchmarks/tables/rate_codes.py ANN FAS2 --text FILE --calibration FILE

Step 3 is made here, for each number of steps: a search for each channel and a fine calibration on training rows, some
of them held out. Metrics are × 100, of whole development splits; or losses in nats per token. Each difference is to
the ANN or the quantised ANN on the same rows, with its 95 % interval by bootstrap. LAS codes the ANN itself, and the
quantised ANN ("LAS of FAS"). Energies are SNN/ANN in the three accountings. With --work, finished rows are kept.
"""

import argparse
import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from support import GLUE, Classifier, print_origin
from timing import now, print_header, print_row
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.checkpoint.loading import default_model, load_converted, load_model
from las_sj.data.text import read_text, text_batches
from las_sj.evaluation.classification import by_length, columns_of, longest, padded, read_rows
from las_sj.evaluation.glue import encode, predictions_of, read_glue, scores
from las_sj.evaluation.result import Measure, measure
from las_sj.models import execution_of
from las_sj.training.coarse import coarse_calibrate
from las_sj.training.fine import FineSettings, fine_calibrate

Batch = dict[str, Tensor]
Rows = np.ndarray  # what a model made of each row, and what it is compared with
TRAINED_ON, HELD_OUT = 320, 128  # training rows of step 3, and rows that its steps are chosen by
WINDOW = 128
NOT_OF_A_ROW = ("work", "time_steps", "las_steps")  # arguments that no row follows from
# The papers' rows: BERT-base, accuracy (LAS, arXiv 2505.09659, tables 2 and 3; SPR there is SRP).
PAPER = {
    "SST-2": "ANN 92.66; SRP T = 8 90.48; QCFS T = 8 89.91; COS T = 8 89.79; FAS T = 4 91.17; LAS T = 16 92.66",
    "MRPC": "ANN 84.56; SRP T = 8 78.68; QCFS T = 8 78.92; COS T = 8 79.66; FAS T = 4 86.02; LAS T = 16 84.80",
    "text": "GPT-2, WikiText-103 perplexity: ANN 16.53; SRP T = 32 19.24; QCFS T = 32 19.36; COS T = 16 19.15; "
    "FAS T = 16 16.84; LAS T = 16 16.79",
}


@dataclass(frozen=True)
class Subject:
    """What a table is of.

    Attributes:
        name: of the task.
        metric: its name.
        ann, fas: the ANN, and the network of step 2.
        training, held_out, evaluation: batches.
        rows_of: what a model makes of the evaluation batches.
        score: the metric of rows.
    """

    name: str
    metric: str
    ann: PreTrainedModel
    fas: PreTrainedModel
    training: list[Batch]
    held_out: list[Batch]
    evaluation: list[Batch]
    rows_of: Callable[[PreTrainedModel], Rows]
    score: Callable[[Rows], float]


def classifier(ann: Path, fas: Path, data: Path, limit: int | None) -> Subject:
    """A task of GLUE."""
    original = Classifier.load(ann, data, limit)
    task, tokenizer = original.task, original.tokenizer
    network, _ = load_converted(fas)
    rows = read_rows(task, data, limit)
    batches, order = by_length(task, original.ann, tokenizer, rows, 32)
    labels = np.asarray(rows["label"], dtype=float)[order]
    train = read_glue(task, "train", data).shuffle(1).select(range(TRAINED_ON + HELD_OUT))
    encoded = encode(task, train, tokenizer, longest(original.ann, tokenizer))
    trained_on, held_out = (
        padded(encoded, tokenizer, part, 16) for part in (range(TRAINED_ON), range(TRAINED_ON, TRAINED_ON + HELD_OUT))
    )

    def rows_of(model: PreTrainedModel) -> Rows:
        logits = np.concatenate([logits_of(model, batch).numpy() for batch in tqdm(batches, leave=False)])
        return np.stack([predictions_of(task, logits[:, columns_of(model, task)]), labels], 1)

    def score(rows: Rows) -> float:
        return 100 * scores(task, rows[:, 0], rows[:, 1])[task.metrics[0]]

    return Subject(task.name, task.metrics[0], original.ann, network, trained_on, held_out, batches, rows_of, score)


def language_model(ann: Path, fas: Path, calibration: Path, text: Path, limit: int) -> Subject:
    """A text."""
    original, tokenizer = load_model(str(ann))
    network, _ = load_converted(fas)
    known = [*text_batches(original, tokenizer, read_text(calibration), 50_000, WINDOW, 4)]
    batches = [*text_batches(original, tokenizer, read_text(text), limit, WINDOW, 4)]

    def rows_of(model: PreTrainedModel) -> Rows:
        losses = []
        for batch in tqdm(batches, leave=False):
            logits = logits_of(model, batch)[:, :-1]
            losses.append(F.cross_entropy(logits.flatten(0, 1), batch["input_ids"][:, 1:].flatten(), reduction="none"))
        return torch.cat(losses).double().numpy()[:, None]

    def score(rows: Rows) -> float:
        return float(rows.mean())

    return Subject("text", "nats per token", original, network, known[8:], known[:8], batches, rows_of, score)


@torch.no_grad()
def logits_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch).logits
    return logits.float()


def accumulated(model: PreTrainedModel) -> PreTrainedModel:
    las_sj.set_execution(model, "accumulated")
    return model


def rate_coded(subject: Subject, method: str, steps: int) -> PreTrainedModel:
    config = las_sj.FASConfig(method=method, time_steps=steps)
    return las_sj.convert(copy.deepcopy(subject.fas), config, subject.held_out[:2])


def calibrated(subject: Subject, steps: int, settings: FineSettings) -> PreTrainedModel:
    """Step 3 for so many time steps."""
    network = rate_coded(subject, "fas", steps)
    coarse_calibrate(network, subject.training[:4], per_channel=True)
    result = fine_calibrate(network, subject.training, subject.held_out, settings)
    print(f"calibrated for T = {steps}: {result.held_out}, kept step {result.best_step}", flush=True, end="\n\n")
    return network


def las(model: PreTrainedModel, steps: int, subject: Subject) -> PreTrainedModel:
    """LAS's codes of the ANN, or of the quantised ANN."""
    return accumulated(las_sj.convert(copy.deepcopy(model), las_sj.LASConfig(time_steps=steps), subject.training[:8]))


Maker = Callable[[], PreTrainedModel]


def systems_of(
    subject: Subject, time_steps: Sequence[int], las_steps: Sequence[int], settings: FineSettings
) -> dict[str, Maker]:
    """How each row of the table is made, by its name."""
    makers: dict[str, Maker] = {
        "ANN": lambda: subject.ann,
        "quantised ANN": lambda: accumulated(copy.deepcopy(subject.fas)),
    }
    for steps in time_steps:
        for method in ("qcfs", "srp", "cos"):
            makers[f"{method.upper()}, T = {steps}"] = lambda m=method, t=steps: rate_coded(subject, m, t)
        makers[f"FAS, T = {steps}"] = lambda t=steps: calibrated(subject, t, settings)
    for steps in las_steps:
        makers[f"LAS, T = {steps}"] = lambda t=steps: las(subject.ann, t, subject)
        makers[f"LAS of FAS, T = {steps}"] = lambda t=steps: las(subject.fas, t, subject)
    return makers


def energies_of(model: PreTrainedModel, batches: Sequence[Batch]) -> dict[str, float]:
    """SNN/ANN by accounting, and spikes per neuron."""
    with torch.no_grad(), SpikeMonitor(model) as monitor:
        for batch in batches:
            model(**batch)
    report = energy_report(monitor)
    return {name: report.ratio(name) for name in report.accountings} | {"spikes": monitor.spikes_per_neuron}


def found(subject: Subject, name: str, make: Maker, work: Path | None) -> dict[str, Any]:
    """What a system makes of the rows, and what it costs; read where it was found before."""
    file = None if work is None else work / f"{name.replace(' ', '')}.json"
    if file is not None and file.exists():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    model = make()
    start = now()
    entry: dict[str, Any] = {"rows": subject.rows_of(model).tolist(), "seconds": now() - start, "energy": {}}
    if name not in ("ANN", "quantised ANN"):
        entry["energy"] = energies_of(model, subject.evaluation[:: max(1, len(subject.evaluation) // 4)])
        entry["presented"] = presented(model)
    if file is not None:
        file.write_text(json.dumps(entry), encoding="utf-8")
    return entry


def kept_in(arguments: argparse.Namespace, ann: Path) -> Path | None:
    """The folder within --work for rows of these weights, data and settings; made where it is missing."""
    if arguments.work is None:
        return None
    others = {name: str(value) for name, value in vars(arguments).items() if name not in NOT_OF_A_ROW}
    known = hashlib.sha256(json.dumps(others, sort_keys=True).encode())
    for folder in (ann, arguments.fas):
        known.update((folder / "model.safetensors").read_bytes())
    kept: Path = arguments.work / known.hexdigest()[:8]
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def presented(model: PreTrainedModel) -> int:
    """Time steps from the input to the answer of a layer, those beforehand included."""
    execution = execution_of(model)
    return execution.time_steps if execution.lanes is None else execution.lanes.presented


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ann", type=Path, help="folder of the ANN; 'default' is the default model")
    parser.add_argument("fas", type=Path, help="folder that las_sj.fas finetune wrote")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--text", type=Path, help="held-out text of a language model")
    parser.add_argument("--calibration", type=Path, help="training text of a language model")
    parser.add_argument("--limit", type=int, help="rows, or tokens (8192), to evaluate")
    parser.add_argument("--time-steps", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--las-steps", type=int, nargs="+", default=[2, 4, 5, 6, 8])
    parser.add_argument("--steps", type=int, default=FineSettings.steps, help="of the fine calibration")
    parser.add_argument("--learning-rate", type=float, default=FineSettings.learning_rate, help="likewise")
    parser.add_argument("--work", type=Path, help="folder for finished rows")
    arguments = parser.parse_args()
    ann = default_model() if str(arguments.ann) == "default" else arguments.ann
    if arguments.text is None:
        subject = classifier(ann, arguments.fas, arguments.data, arguments.limit)
    else:
        subject = language_model(ann, arguments.fas, arguments.calibration, arguments.text, arguments.limit or 8192)
    work = kept_in(arguments, ann)
    settings = FineSettings(steps=arguments.steps, learning_rate=arguments.learning_rate)
    makers = systems_of(subject, arguments.time_steps, arguments.las_steps, settings)
    entries = {name: found(subject, name, make, work) for name, make in makers.items()}
    report(subject, entries)


def report(subject: Subject, entries: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    rows = {name: np.asarray(entry["rows"]) for name, entry in entries.items()}
    print_origin(f"{subject.name}, {len(rows['ANN'])} rows, {subject.metric}")
    compared = ["to the ANN", "95 % interval", "to the quantised ANN", "95 % interval"]
    accountings = ["energy (paper)", "level-aware", "with memory"]
    print_header(["system", "steps presented", subject.metric, *compared, "gap closed", "spikes", *accountings])
    for name, entry in entries.items():
        to_ann, to_quantised = (compare(subject, rows[other], rows[name]) for other in ("ANN", "quantised ANN"))
        cells = [f"{to_ann.snn:.3f}", *difference(to_ann), *difference(to_quantised), closed(subject, rows, name)]
        energy = entry["energy"]
        costs = [f"{energy[key]:.3f}" for key in ("spikes", "paper", "level_aware", "with_memory") if energy]
        print_row([name, entry.get("presented", ""), *cells, *(costs or [""] * 4)])
    print(f"\nThe papers: {PAPER.get(subject.name, '')}")


def compare(subject: Subject, reference: Rows, other: Rows) -> Measure:
    return measure(subject.metric, subject.score, [reference, other], 0)


def difference(m: Measure) -> list[str]:
    return [f"{m.difference:+.3f}", f"{m.low:+.3f} … {m.high:+.3f}"]


def closed(subject: Subject, rows: dict[str, Rows], name: str) -> str:
    """The share of the gap between uncalibrated and quantised that calibration has closed, where there is one."""
    if not name.startswith("FAS"):
        return ""
    uncalibrated = rows[name.replace("FAS", "QCFS")]
    gap = compare(subject, rows["quantised ANN"], uncalibrated)
    if gap.low <= 0 <= gap.high:
        return "gap within its interval"
    return f"{1 - compare(subject, rows['quantised ANN'], rows[name]).difference / gap.difference:.0%}"


if __name__ == "__main__":
    main()
