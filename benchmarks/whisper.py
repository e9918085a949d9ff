"""A real Whisper as a spiking network: errors, tokens with its own cache, saving, MACs, and times.

    python benchmarks/whisper.py MODEL AUDIO [--sounds 20] [--temporal 1] [--rounds 3]

MODEL is a folder of transformers' (tiny.en: `../shared/data/whisper_tiny_en.py` makes one), AUDIO one of sounds. The
network has T = 16 and is calibrated on the first sounds, of which the others are not part.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timing import in_turn, machine, milliseconds, print_header, print_row
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.checkpoint.loading import class_to_convert, load_ann
from las_sj.checkpoint.processors import load_processors
from las_sj.conversion.media_batches import media_batches
from las_sj.data.media import read_media
from las_sj.data.modalities import modalities_of
from las_sj.models import running

Batches = list[dict[str, Tensor]]
CALIBRATION = 4  # sounds
TOKENS = 24


def read(model: str, audio: Path, sounds: int) -> tuple[PreTrainedModel, Batches]:
    """The ANN, and its input for each sound, with what it writes itself for the decoder."""
    kind = class_to_convert(model)
    takes = modalities_of(kind)
    ann, processors = load_ann(kind, model), load_processors(model, takes)
    return ann, media_batches(ann, processors, takes, read_media("audio", audio).examples[:sounds], 1)


def errors(ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches) -> list[float]:
    """Relative errors of the logits, sound by sound."""
    pairs = ((ann(**batch).logits, snn(**batch).logits) for batch in batches)
    return [float((found - expected).norm() / expected.norm()) for expected, found in pairs]


def written(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Greedy tokens, with the model's own cache of self- and cross-attention."""
    tokens: Any = model.generate(batch["input_features"], do_sample=False, num_beams=1, max_new_tokens=TOKENS)
    return tokens


def same_tokens(ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches) -> str:
    """For how many sounds both write the same."""
    same = sum(torch.equal(written(ann, batch), written(snn, batch)) for batch in batches)
    return f"{same} of {len(batches)}"


def is_the_same_when_loaded(snn: PreTrainedModel, batch: dict[str, Tensor]) -> bool:
    """Whether a copy from a folder gives the same bits in both executions."""
    with tempfile.TemporaryDirectory() as folder:
        snn.save_pretrained(folder)
        loaded = type(snn).from_pretrained(folder)
        return all(_equal(snn, loaded, batch, execution) for execution in ("accumulated", "temporal"))


def _equal(snn: PreTrainedModel, loaded: PreTrainedModel, batch: dict[str, Tensor], execution: str) -> bool:
    with running(snn, execution), running(loaded, execution):
        return torch.equal(snn(**batch).logits, loaded(**batch).logits)


def macs(ann: PreTrainedModel, snn: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[int, int]:
    """Multiply-accumulates of the energy report, and half of what torch counts in the ANN."""
    with running(snn, "accumulated"), SpikeMonitor(snn) as monitor:
        snn(**batch)
    eager = copy.deepcopy(ann)
    eager.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        eager(**batch)
    return sum(row.operations.macs for row in energy_report(monitor).rows), counter.get_total_flops() // 2


def rows(arguments: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """What is measured, and what came out."""
    ann, batches = read(arguments.model, arguments.audio, arguments.sounds)
    start = time.perf_counter()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(), batches[:CALIBRATION])
    yield f"conversion with {min(CALIBRATION, len(batches))} sounds, s", f"{time.perf_counter() - start:.1f}"
    few = batches[-arguments.temporal :]
    for execution, some in (("accumulated", batches), ("temporal", few)):
        with running(snn, execution):
            yield f"largest error of the logits, {execution}", f"{max(errors(ann, snn, some)):.1e}"
            yield f"sounds with the tokens of the ANN, {execution}", same_tokens(ann, snn, some)
    yield "saved and loaded, the same bits in both executions", is_the_same_when_loaded(snn, few[0])
    found, expected = macs(ann, snn, few[0])
    yield "MACs of the energy report / of torch's counter", f"{found:,} / {expected:,}"
    yield from times(ann, snn, few[0], arguments.rounds)


def times(
    ann: PreTrainedModel, snn: PreTrainedModel, batch: dict[str, Tensor], rounds: int
) -> Iterator[tuple[str, object]]:
    """Medians of calls in turn."""

    def call(model: PreTrainedModel, execution: str | None = None) -> Callable[[], Any]:
        def run() -> Any:
            if execution is not None:
                las_sj.set_execution(model, execution)
            return model(**batch)

        return run

    calls = {"ANN": call(ann), "accumulated": call(snn, "accumulated"), "temporal": call(snn, "temporal")}
    medians = {name: durations.median for name, durations in in_turn(calls, rounds).items()}
    for name, median in medians.items():
        yield f"{name} call, ms", milliseconds(median)
    yield "temporal / (T × ANN)", f"{medians['temporal'] / 16 / medians['ANN']:.2f}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("audio", type=Path)
    parser.add_argument("--sounds", type=int, default=20)
    parser.add_argument("--temporal", type=int, default=1, help="sounds of the temporal execution (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine('cpu')}\n")
    print_header(["what", "measured"])
    for name, value in rows(arguments):
        print_row([name, value])


if __name__ == "__main__":
    main()
