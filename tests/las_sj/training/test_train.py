"""The Trainer on networks of rate codes: groups of parameters, checkpoints, and what makes a training useless."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import Model, calibration_batches, gpt2, token_ids

import las_sj
from las_sj.models.execution import execution_of
from las_sj.training.errors import CheckpointError, TrainingError
from las_sj.training.language import stacked, with_labels
from las_sj.training.material import Material
from las_sj.training.settings import TrainingSettings
from las_sj.training.start import read_start
from las_sj.training.thresholds import check_thresholds, set_thresholds, take_thresholds, thresholds_in
from las_sj.training.train import train
from las_sj.training.unfinished import last_checkpoint
from las_sj.training.whole import Whole, mark_whole

pytest.importorskip("accelerate", reason="the extra glue is not installed")

SITES = ["transformer.h.0.mlp.act", "transformer.h.1.mlp.act"]


def network() -> Model:
    return las_sj.convert(gpt2(), las_sj.FASConfig(levels=4, time_steps=2), calibration_batches())


def material() -> Material:
    rows = [{"input_ids": ids} for ids in token_ids(8, 12)]
    return Material(rows, stacked, lambda model: {}, with_labels)


def settings(**options: float) -> TrainingSettings:
    return TrainingSettings(steps=4, batch_size=2, save_steps=2, **options)  # type: ignore[arg-type]


def test_thresholds_have_their_own_rate_and_never_decay(tmp_path: Path) -> None:
    """AdamW's first step is as long as the learning rate, to whose end the others are too slow."""
    model = network()
    before = thresholds_in(model)
    weight = model.get_submodule("transformer.h.0.mlp.c_fc").weight.detach().clone()
    train(
        model, material(), settings(learning_rate=1e-12, threshold_learning_rate=0.01, weight_decay=0.9), tmp_path, None
    )
    moved = [abs(thresholds_in(model)[name] - before[name]) for name in SITES]
    assert all(0.005 < distance < 0.026 for distance in moved)  # 0.01 · (1 + 3/4 + 1/2 + 1/4) at most
    assert torch.allclose(model.get_submodule("transformer.h.0.mlp.c_fc").weight, weight, atol=1e-8)


def test_execution_is_left_as_it_was(tmp_path: Path) -> None:
    model = network()
    course = train(model, material(), settings(), tmp_path, None)
    assert execution_of(model).name == "temporal"
    assert not model.training
    assert [step for step, _ in course.losses] == [1, 2, 3, 4]
    assert course.resumed_from is None


def test_goes_on_with_weights_and_thresholds(tmp_path: Path) -> None:
    whole, again = network(), network()
    train(whole, material(), settings(threshold_learning_rate=0.1), tmp_path, None)
    (tmp_path / "checkpoint-4" / "whole.json").rename(tmp_path / "kept")  # as if killed while it was written
    checkpoint = last_checkpoint(tmp_path)
    (tmp_path / "kept").rename(tmp_path / "checkpoint-4" / "whole.json")
    assert checkpoint == tmp_path / "checkpoint-2"
    course = train(again, material(), settings(threshold_learning_rate=0.1), tmp_path, checkpoint)
    assert course.resumed_from == 2
    assert [step for step, _ in course.losses] == [1, 2, 3, 4]
    done = network()
    train(done, material(), settings(threshold_learning_rate=0.1), tmp_path, tmp_path / "checkpoint-4")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
        assert torch.equal(done.state_dict()[name], tensor), name


def test_damaged_checkpoints_are_not_gone_on_with(tmp_path: Path) -> None:
    """transformers goes on without states that are missing, and ends elsewhere."""
    train(network(), material(), settings(), tmp_path, None)
    checkpoint = tmp_path / "checkpoint-2"
    marked = json.loads((checkpoint / "whole.json").read_text())
    states = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert {*marked["files"]} >= {"model.safetensors", "config.json", "trainer_state.json", *states}
    for name in sorted({"model.safetensors", *states}):
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).unlink()
        with pytest.raises(CheckpointError, match=rf"on from \(its {name} is missing\): --restart begins anew"):
            train(network(), material(), settings(), tmp_path, checkpoint)
        (checkpoint / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CheckpointError, match=rf"\(its {name} is not the one that was saved\): --r"):
            train(network(), material(), settings(), tmp_path, checkpoint)
        (checkpoint / name).write_bytes(content)
    train(network(), material(), settings(), tmp_path, checkpoint)


@pytest.mark.parametrize("name", ["rng_state.pth", "optimizer.pt", "scheduler.pt"])
def test_states_are_never_unpickled(name: str, tmp_path: Path) -> None:
    """A pickle that would make a file: torch reads tensors and plain values alone."""
    train(network(), material(), settings(), tmp_path, None)
    checkpoint = tmp_path / "checkpoint-2"
    assert not (checkpoint / "training_args.bin").exists()
    made = tmp_path / "made"
    (checkpoint / name).write_bytes(f"cos\nsystem\n(S'touch {made}'\ntR.".encode())
    mark_whole(checkpoint, Whole(2, 1.0))
    with pytest.raises(TrainingError, match=r"checkpoint-2 cannot be gone on from .*: --restart begins anew"):
        train(network(), material(), settings(), tmp_path, checkpoint)
    assert not made.exists()


def test_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.get_submodule("transformer.ln_f").weight[0] = torch.inf
    with pytest.raises(TrainingError, match="the loss is infinite or NaN after step 1: train with a smaller"):
        train(model, material(), settings(), tmp_path, None)


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf])
def test_dead_thresholds_are_found(value: float) -> None:
    model = network()
    check_thresholds(model)
    set_thresholds(model, value)
    with pytest.raises(TrainingError, match=r"the threshold of transformer.h.0.mlp.act has become .*: train with"):
        check_thresholds(model)


def test_thresholds_are_taken_by_name(tmp_path: Path) -> None:
    stored, other = network(), network()
    set_thresholds(stored, 2.5)
    stored.save_pretrained(tmp_path)
    found = read_start(str(tmp_path)).thresholds()
    assert take_thresholds(other, found, "stored") == SITES
    assert set(thresholds_in(other).values()) == {2.5}


def test_thresholds_of_other_sites_are_refused() -> None:
    with pytest.raises(TrainingError, match="stored has thresholds of other sites than the model"):
        take_thresholds(network(), {"other": torch.tensor(1.0)}, "stored")
    with pytest.raises(TrainingError, match=r"mlp.act has thresholds \[4\] in stored, \[\] here"):
        take_thresholds(network(), {SITES[0]: torch.ones(4)}, "stored")
