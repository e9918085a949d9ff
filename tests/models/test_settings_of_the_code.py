"""Conversion with other settings of the code, and in other dtypes."""

from typing import Any

import pytest
import torch
from tiny_models import (
    EXECUTIONS,
    MODELS,
    calibration_batches,
    convert_tiny,
    padding_mask,
    relative_error,
    run,
    run_and_count,
    token_ids,
)
from transformers import PreTrainedModel

import las_sj
from las_sj.models import named_sites
from las_sj.neurons import HGNode, MTNode, OATNode

NAMES = ["bert-masked-lm", "gpt2", "llama"]
# Settings, and a bound of the logits' relative error: about twice what was measured on these weights.
SETTINGS: dict[str, tuple[dict[str, Any], float]] = {
    "T=1": ({"time_steps": 1}, 2.0),
    "T=2": ({"time_steps": 2}, 0.7),
    "T=8": ({"time_steps": 8}, 2.5e-2),
    "T=24": ({"time_steps": 24}, 1.5e-5),
    "levels=1": ({"levels": 1}, 1.5e-4),
    "levels=127": ({"levels": 127}, 5e-5),
    "floor": ({"rounding": "floor"}, 2e-4),
    "floor, levels=1": ({"rounding": "floor", "levels": 1}, 3e-4),
    "one spike": ({"max_spikes": 1}, 0.2),
    "two spikes": ({"max_spikes": 2}, 3e-3),
    "single threshold": ({"outlier_aware": False}, 3e-4),
    "coarse HG": ({"hg_tolerance": 1e-2}, 1e-2),
    "few HG lines": ({"hg_lines": 16}, 1e-2),
    "coarse last step": ({"last_step": 0.1}, 0.1),
    "coarse last step, levels=1": ({"last_step": 0.1, "levels": 1}, 0.1),
    "coarse last step, single threshold": ({"last_step": 0.1, "outlier_aware": False}, 0.1),
    "no headroom": ({"headroom": 1.0}, 1e-4),
}


@pytest.mark.filterwarnings("ignore::las_sj.OutOfRangeWarning")  # T = 1 is too coarse; no headroom is none
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("setting", list(SETTINGS))
def test_error_and_executions(name: str, setting: str) -> None:
    settings, bound = SETTINGS[setting]
    ann = MODELS[name]()
    snn = convert_tiny(ann, **settings)
    batch = {"input_ids": token_ids()}
    with torch.no_grad():
        expected = ann(**batch)[0]
    assert 0 < relative_error(run(snn, "accumulated", **batch)[0], expected) < bound
    snn.double()
    (temporal, spikes), (accumulated, counts) = (run_and_count(snn, execution, **batch) for execution in EXECUTIONS)
    assert relative_error(temporal[0], accumulated[0]) < 1e-9
    assert {name: neurons for name, (neurons, _) in spikes.items()} == {name: pair[0] for name, pair in counts.items()}
    # The last of 24 binary digits of an HG neuron is 2^-24 of its sub-range: rounding in fp64 decides one in a million.
    few = 3 if snn.las_execution.time_steps == 24 else 0
    assert all(abs(spikes[name][1] - counts[name][1]) <= few for name in spikes)


@pytest.mark.parametrize("name", NAMES)
def test_more_steps_are_more_exact(name: str) -> None:
    ann = MODELS[name]()
    with torch.no_grad():
        expected = ann(token_ids())[0]
    errors = [
        relative_error(run(convert_tiny(ann, time_steps=steps), "accumulated", input_ids=token_ids())[0], expected)
        for steps in (6, 10, 14)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.parametrize("outlier_aware", [True, False])
def test_kind_of_neurons(outlier_aware: bool) -> None:
    snn = convert_tiny(MODELS["llama"](), outlier_aware=outlier_aware, levels=3, time_steps=9, max_spikes=4)
    kind = OATNode if outlier_aware else MTNode
    nodes = [site.node for _, site in named_sites(snn)]
    coders = [node for node in nodes if not isinstance(node, HGNode)]
    assert len(coders) > 20
    for node in coders:
        assert isinstance(node, kind)
        assert (node.code.time_steps, node.code.levels, node.code.max_spikes) == (9, 3, 4)


def test_spike_limit_holds() -> None:
    snn = convert_tiny(MODELS["gpt2"](), max_spikes=2)
    _, counts = run_and_count(snn, "temporal", input_ids=token_ids())
    coded = {name: pair for name, pair in counts.items() if not _is_hg(snn, name)}
    assert all(spikes <= 2 * neurons for neurons, spikes in coded.values())
    assert any(spikes > neurons for neurons, spikes in coded.values())


def _is_hg(model: PreTrainedModel, name: str) -> bool:
    return isinstance(model.get_submodule(name), HGNode)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name: str, execution: str, dtype: torch.dtype, bound: float) -> None:
    """Currents are rounded to the dtype at each of the T steps: a few times its resolution."""
    ann = MODELS[name]().to(dtype)
    snn = las_sj.convert(MODELS[name]().to(dtype), None, calibration_batches())
    mask = padding_mask("right")
    with torch.no_grad():
        expected = ann(token_ids(), attention_mask=mask)[0]
    output = run(snn, execution, input_ids=token_ids(), attention_mask=mask)[0]
    assert output.dtype == dtype
    assert relative_error(output[mask.bool()], expected[mask.bool()]) < bound
