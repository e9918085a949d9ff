"""What was measured of every family and head on tiny models with random weights, as a Markdown table.

    python benchmarks/families.py       (its output is the table of docs/families.md)

Errors are ‖SNN − ANN‖/‖ANN‖ at T=16, of the first output without padding; random weights say nothing of quality.
"""

import copy
import sys
import tempfile
import warnings
from typing import Any

import torch
import transformers
from tiny_families import TINY_MODELS, Batch, Model, TinyModel, double
from torch import Tensor
from tqdm import tqdm
from transformers.utils import logging

import las_sj
from las_sj.analysis import audit

HEADER = (
    "architecture",
    "accumulated against ANN",
    "temporal against accumulated, fp64",
    "became spiking",
    "analog",
    "audit: products of analog operands",
    "saved, loaded",
    "generates: temporal = accumulated = without cache",
)


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
    for tiny in tqdm(TINY_MODELS.values(), file=sys.stderr):
        print("| " + " | ".join(row_of(tiny)) + " |", flush=True)


@torch.no_grad()
def row_of(tiny: TinyModel) -> list[str]:
    """Cells of one architecture."""
    ann = tiny.build()
    snn = las_sj.convert(copy.deepcopy(ann), None, [tiny.batch(4, seed) for seed in (1, 2)])
    batch, mask = _padded(tiny)
    error = _difference(_first(snn, "accumulated", batch, mask), _real(ann(**batch), mask))
    spiking, analog = sum(snn.las_coverage.spiking.values()), len(snn.las_coverage.analog)
    products = audit(snn, tiny.batch(2, 3)).analog_products
    loaded = _saved_and_loaded(snn, tiny)
    same = all(
        torch.equal(_first(snn, execution, batch, mask), _first(loaded, execution, batch, mask))
        for execution in ("temporal", "accumulated")
    )
    snn.double()
    gap = _difference(*(_first(snn, execution, double(batch), mask) for execution in ("temporal", "accumulated")))
    return [
        tiny.architecture,
        f"{error:.1e}",
        f"{gap:.1e}",
        str(spiking),
        str(analog),
        str(products),
        "bit-identical" if same else "DIFFERS",
        _generation(tiny, snn) if tiny.generates else "",
    ]


def _padded(tiny: TinyModel) -> tuple[Batch, Tensor | None]:
    batch = tiny.batch(3, 3)
    if "input_ids" not in batch:
        return batch, None
    mask = torch.ones_like(batch["input_ids"])
    mask[1, -3:] = 0
    return batch | {"input_ids": batch["input_ids"] * mask, "attention_mask": mask}, mask.bool()


def _first(model: Model, execution: str, batch: Batch, mask: Tensor | None) -> Tensor:
    las_sj.set_execution(model, execution)
    return _real(model(**batch), mask)


def _real(output: Any, mask: Tensor | None) -> Tensor:
    first = output[0]
    return first[mask] if mask is not None and first.shape[:2] == mask.shape else first


def _difference(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def _saved_and_loaded(snn: Model, tiny: TinyModel) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        snn.save_pretrained(folder)
        return getattr(transformers, tiny.architecture).from_pretrained(folder)


def _generation(tiny: TinyModel, snn: Model) -> str:
    batch, results = double(tiny.batch(2, 4)), []
    for execution in ("temporal", "accumulated"):
        for cached in (True, False):
            las_sj.set_execution(snn, execution)
            options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
            results.append(snn.generate(**batch, **options, use_cache=cached, pad_token_id=0))
    return "yes" if all(torch.equal(result, results[0]) for result in results) else "NO"


if __name__ == "__main__":
    main()
