"""A real Whisper as a spiking network: errors, tokens with its own cache, saving, audit, MACs, and times.

    python benchmarks/whisper.py MODEL AUDIO [--sounds 20] [--temporal 3] [--rounds 3] [--parts errors tokens ...]

MODEL is a folder of transformers' (tiny.en: `../shared/data/whisper_tiny_en.py` makes one), AUDIO one of sounds. The
network has T = 16 and is calibrated on the first sounds, of which the others are not part. The audit, which checks each
value, is of the same weights with an encoder of few positions.
"""

import argparse
import copy
import json
import subprocess
import sys
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
from las_sj.analysis import SpikeMonitor, audit, energy_report
from las_sj.checkpoint.loading import class_to_convert, load_ann
from las_sj.checkpoint.processors import load_processors
from las_sj.conversion.media_batches import media_batches
from las_sj.data.media import read_media
from las_sj.data.modalities import modalities_of
from las_sj.models import running

Batches = list[dict[str, Tensor]]
CALIBRATION = 4  # sounds
TOKENS = 24
POSITIONS = 48  # of the encoder that is audited
Row = tuple[str, object]


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


def seconds_of_command(model: str, audio: Path) -> str:
    """What `python -m las_sj.convert` takes, its comparison and pictures included, and its conversion alone."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "las_sj.convert", model, "--audio", str(audio), "--output", f"{folder}/snn"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        whole = time.perf_counter() - start
        parts = json.loads(Path(folder, "snn", "las_report.json").read_text())["seconds"]
        return f"{whole:.1f}, of which conversion {parts['convert']:.1f}, comparison {parts['compare']:.1f}"


def verdict(ann: PreTrainedModel, batch: dict[str, Tensor]) -> str:
    """Of an audit of a temporal call."""
    small: Any = copy.deepcopy(ann)
    encoder = small.get_encoder()
    small.config.max_source_positions = encoder.max_source_positions = POSITIONS
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:POSITIONS])
    short = batch | {"input_features": batch["input_features"][..., : 2 * POSITIONS]}
    found = audit(las_sj.convert(small, las_sj.LASConfig(), [short]), short)
    return "yes" if found.fully_spike_driven else f"no: {', '.join(map(str, found.analog))}"


def of_errors(ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches, asked: argparse.Namespace) -> Iterator[Row]:
    for execution, some in (("accumulated", batches), ("temporal", batches[-asked.temporal :])):
        with running(snn, execution):
            found = max(errors(ann, snn, some))
        yield f"largest error of the logits of {len(some)} sounds, {execution}", f"{found:.1e}"


def of_tokens(ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches, asked: argparse.Namespace) -> Iterator[Row]:
    for execution, some in (("accumulated", batches), ("temporal", batches[-1:])):
        with running(snn, execution):
            yield f"sounds with the tokens of the ANN, {execution}", same_tokens(ann, snn, some)


def of_the_rest(
    ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches, asked: argparse.Namespace
) -> Iterator[Row]:
    yield "saved and loaded, the same bits in both executions", is_the_same_when_loaded(snn, batches[-1])
    found, expected = macs(ann, snn, batches[-1])
    yield "MACs of the energy report / of torch's counter", f"{found:,} / {expected:,}"
    yield f"fully spike-driven, {POSITIONS} positions", verdict(ann, batches[-1])
    yield "conversion by command, s", seconds_of_command(asked.model, asked.audio)


def of_times(ann: PreTrainedModel, snn: PreTrainedModel, batches: Batches, asked: argparse.Namespace) -> Iterator[Row]:
    """Medians of calls in turn."""
    batch = batches[-1]

    def call(model: PreTrainedModel, execution: str | None = None) -> Callable[[], Any]:
        def run() -> Any:
            if execution is not None:
                las_sj.set_execution(model, execution)
            return model(**batch)

        return run

    calls = {"ANN": call(ann), "accumulated": call(snn, "accumulated"), "temporal": call(snn, "temporal")}
    medians = {name: durations.median for name, durations in in_turn(calls, asked.rounds).items()}
    for name, median in medians.items():
        yield f"{name} call, ms", milliseconds(median)
    yield "temporal / (T × ANN)", f"{medians['temporal'] / 16 / medians['ANN']:.2f}"


PARTS = {"errors": of_errors, "tokens": of_tokens, "rest": of_the_rest, "times": of_times}


def rows(asked: argparse.Namespace) -> Iterator[Row]:
    """What is measured, and what came out."""
    ann, batches = read(asked.model, asked.audio, asked.sounds)
    start = time.perf_counter()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(), batches[:CALIBRATION])
    yield f"conversion with {min(CALIBRATION, len(batches))} sounds, s", f"{time.perf_counter() - start:.1f}"
    for part in asked.parts:
        yield from PARTS[part](ann, snn, batches, asked)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("audio", type=Path)
    parser.add_argument("--sounds", type=int, default=20)
    parser.add_argument("--temporal", type=int, default=3, help="sounds of the temporal errors (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    asked = parser.parse_args()
    print(f"{machine('cpu')}\n")
    print_header(["what", "measured"])
    for name, value in rows(asked):
        print_row([name, value])


if __name__ == "__main__":
    main()
