"""Kept trains are what was emitted, and survive their file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, convert_tiny, padding_mask, run, token_ids

from las_sj.analysis import SpikeMonitor, TrainFileError, load_trains
from las_sj.models import named_sites
from las_sj.neurons import HGNode

T = 7


@pytest.mark.parametrize("fewer_stages", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_trains_are_what_was_emitted(execution: str, fewer_stages: bool) -> None:
    snn = convert_tiny(MODELS["llama"](), time_steps=T, levels=3, fewer_stages=fewer_stages)
    emitted: dict[str, torch.Tensor] = {}
    handles = [
        site.node.register_forward_hook(lambda m, a, train, name=name: emitted.__setitem__(name, train))
        for name, site in named_sites(snn)
    ]
    with SpikeMonitor(snn, keep_trains=40) as monitor:
        run(snn, execution, input_ids=token_ids())
    for handle in handles:
        handle.remove()
    assert monitor.train_sample is not None
    trains = monitor.train_sample.trains()
    assert trains.keys() == emitted.keys()
    for name, kept in trains.items():
        train = emitted[name] if execution == "temporal" else emitted[name].unsqueeze(0)
        expected = train.flatten(1)[:, torch.from_numpy(kept.index)].numpy()
        values = kept.values() if execution == "temporal" else kept.values().sum(0, keepdims=True)
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-6, err_msg=name)
        assert kept.fired.shape == (T, len(kept.index))
        assert 0 < len(kept.index) <= 40


def test_file_gives_back_the_same(tmp_path: Path) -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T, levels=5)
    with SpikeMonitor(snn, keep_trains=30) as monitor:
        for _ in range(3):
            run(snn, "accumulated", input_ids=token_ids(), attention_mask=padding_mask("right"))
    assert monitor.train_sample is not None
    monitor.train_sample.save(tmp_path / "trains.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["trains.npz"]
    loaded = load_trains(tmp_path / "trains.npz")
    for name, kept in monitor.train_sample.trains().items():
        for field, array in vars(kept).items():
            np.testing.assert_array_equal(getattr(loaded[name], field), array, err_msg=f"{name}.{field}")
    outliers = [trains.outlier.any() for name, trains in loaded.items()]
    assert any(outliers)
    assert any(trains.negative.any() for trains in loaded.values())
    assert any(trains.level.max() > 0 for trains in loaded.values())
    hg = [name for name, site in named_sites(snn) if isinstance(site.node, HGNode)]
    assert all((loaded[name].level == 0).all() and loaded[name].levels == 1 for name in hg)


def test_bounded() -> None:
    snn = convert_tiny(MODELS["gpt2"](), time_steps=T)
    with SpikeMonitor(snn, keep_trains=100) as monitor:
        for _ in range(5):
            run(snn, "accumulated", input_ids=token_ids())
    assert monitor.train_sample is not None
    trains = monitor.train_sample.trains()
    assert {len(kept.index) for kept in trains.values()} == {100}
    # 64 neurons of a window at most: 64 + 36, and 30 + 30 + 30 + 10 of populations with one neuron for each token
    assert {int(kept.window.max()) for kept in trains.values()} == {1, 3}
    assert SpikeMonitor(snn).train_sample is None


def test_padding_is_not_kept() -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    mask = padding_mask("right")
    with SpikeMonitor(snn, keep_trains=500) as monitor:
        run(snn, "accumulated", input_ids=token_ids(), attention_mask=mask)
    assert monitor.train_sample is not None
    kept = monitor.train_sample.trains()["encoder.layer.0.intermediate.dense.input_node"]
    token = np.unravel_index(kept.index, (3, 10, 32))[:2]
    assert mask.numpy()[token].all()


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "trains.npz"
    with pytest.raises(TrainFileError, match=r"trains\.npz holds no spike trains"):
        load_trains(path)
    path.write_bytes(b"no zip file")
    with pytest.raises(TrainFileError, match="holds no spike trains"):
        load_trains(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(TrainFileError, match="holds no spike trains"):
        load_trains(path)
    np.savez(path, header=np.array(json.dumps({"format_version": 9, "sites": {}})))
    with pytest.raises(TrainFileError, match="format version 9, this las_sj reads 1"):
        load_trains(path)
    np.savez(path, header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(TrainFileError, match="holds no spike trains"):
        load_trains(path)
