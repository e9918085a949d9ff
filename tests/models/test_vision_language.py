"""Models that read images and text, with real photographs through their own processors."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_families import Batch, Model, double
from tiny_models import EXECUTIONS, relative_error, run
from tiny_vision_language import IMAGES, build, photographs, processor_of
from torch import Tensor

import las_sj
from las_sj.analysis import SpikeMonitor, audit, energy_report

TEXTS = ("<image> What is in the picture?", "The second picture: <image> It shows")
TOWERS = {"llava": "model.vision_tower", "qwen2_vl": "model.visual"}

pytestmark = pytest.mark.skipif(not IMAGES.exists(), reason="the CIFAR-10 images of shared/data are not here")


def batch_of(kind: str, first: int) -> Batch:
    """Two prompts of different length, each with a photograph."""
    texts = [text.replace("<image>", "<image>" if kind == "llava" else "<|image_pad|>") for text in TEXTS]
    images = list(photographs()[first : first + 2])
    return dict(processor_of(kind)(text=texts, images=images, padding=True, return_tensors="pt"))


@cache
def converted(kind: str, keep_tower: bool) -> tuple[Model, Model]:
    ann = build(kind)
    settings = las_sj.LASConfig(keep_analog=(TOWERS[kind],) if keep_tower else ())
    return ann, las_sj.convert(copy.deepcopy(ann), settings, [batch_of(kind, first) for first in (2, 6, 10)])


def real_tokens(logits: Tensor, batch: Batch) -> Tensor:
    return logits[batch["attention_mask"].bool()]


@pytest.fixture(params=[False, True], ids=["tower spiking", "tower analog"])
def keep_tower(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("kind", list(TOWERS))
class TestWithProcessors:
    @torch.no_grad()
    def test_logits(self, kind: str, keep_tower: bool) -> None:
        ann, snn = copy.deepcopy(converted(kind, keep_tower))
        batch = batch_of(kind, 0)
        expected = real_tokens(ann(**batch).logits, batch)
        assert relative_error(real_tokens(run(snn, "accumulated", **batch).logits, batch), expected) < 1e-3
        other = real_tokens(ann(**batch_of(kind, 4)).logits, batch)
        assert relative_error(other, expected) > 1e-2  # the pictures matter
        snn.double()
        temporal, accumulated = (
            real_tokens(run(snn, execution, **double(batch)).logits, batch) for execution in EXECUTIONS
        )
        assert relative_error(temporal, accumulated) < 1e-9

    def test_features_of_images(self, kind: str, keep_tower: bool) -> None:
        """`get_image_features` is called outside of a forward call too."""
        ann, snn = converted(kind, keep_tower)
        batch = batch_of(kind, 0)
        arguments = {name: batch[name] for name in ("pixel_values", "image_grid_thw") if name in batch}
        with torch.no_grad():
            expected = torch.cat(list(ann.get_image_features(**arguments).pooler_output))
            for execution in EXECUTIONS:
                las_sj.set_execution(snn, execution)
                found = torch.cat(list(snn.get_image_features(**arguments).pooler_output))
                assert relative_error(found, expected) < 1e-3

    def test_generated(self, kind: str, keep_tower: bool) -> None:
        ann, snn = copy.deepcopy(converted(kind, keep_tower))
        batch = batch_of(kind, 0)
        options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
        expected = ann.generate(**batch, **options)
        snn.double()
        results = []
        for execution in EXECUTIONS:
            las_sj.set_execution(snn, execution)
            results += [snn.generate(**double(batch), **options, use_cache=cached) for cached in (True, False)]
        assert all(torch.equal(result, results[0]) for result in results)
        assert (results[0] == expected)[:, -6:].float().mean() > 0.8  # random weights leave near ties

    def test_outputs_of_the_tower(self, kind: str, keep_tower: bool) -> None:
        """What a call returns of its images is summed over time like the rest."""
        ann, snn = converted(kind, keep_tower)
        batch = batch_of(kind, 0)
        with torch.no_grad():
            expected = torch.cat(list(ann(**batch).image_outputs.pooler_output))
        for execution in EXECUTIONS:
            found = torch.cat(list(run(snn, execution, **batch).image_outputs.pooler_output))
            assert relative_error(found, expected) < 1e-3

    def test_reported(self, kind: str, keep_tower: bool) -> None:
        _, snn = converted(kind, keep_tower)
        tower = TOWERS[kind]
        assert list(snn.las_coverage.analog) == ([tower] if keep_tower else [])
        batch = batch_of(kind, 0)
        with SpikeMonitor(snn) as monitor:
            run(snn, "accumulated", **batch)
        rows = [row for row in energy_report(monitor).rows if row.name.startswith(tower)]
        if keep_tower:
            assert [row.kind for row in rows] == ["analog"]
            assert rows[0].snn_pj["paper"] == rows[0].ann_pj["paper"] > 0
        else:
            assert {"projection", "scores", "norm", "activation"} <= {row.kind for row in rows}
        result = audit(snn, batch)
        assert result.fully_spike_driven is not keep_tower
        assert all(row.module.startswith(tower) for row in result.analog)

    def test_saved_and_loaded(self, kind: str, keep_tower: bool, tmp_path: Path) -> None:
        _, snn = converted(kind, keep_tower)
        snn.save_pretrained(tmp_path, max_shard_size="40KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
        loaded = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, device_map="auto")
        assert loaded.las_coverage == snn.las_coverage
        for execution in EXECUTIONS:
            first, second = (run(model, execution, **batch_of(kind, 0)).logits for model in (snn, loaded))
            assert torch.equal(first, second)
        base = transformers.AutoModel.from_pretrained(tmp_path)
        assert len(base.las_coverage.analog) == len(snn.las_coverage.analog)


def test_needs_calibration() -> None:
    with pytest.raises(las_sj.CalibrationError, match="batches of what its processor returns"):
        las_sj.convert(build("llava"))
