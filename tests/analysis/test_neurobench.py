"""NeuroBench's own figures of a converted classifier, against counts of this package and by hand."""

import re
from typing import Any

import programs
import pytest
import torch
from tiny_models import bert, convert_tiny, gpt2, padding_mask, token_ids
from tiny_rate_codes import convert_to_rates
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoTokenizer, BertForSequenceClassification, GPT2ForSequenceClassification

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.loading import default_model
from las_sj.models.layers.linear import FedLinear

pytest.importorskip("neurobench", reason="the extra neurobench is not installed")

from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
from neurobench.metrics.workload import (
    ActivationSparsity,
    ActivationSparsityByLayer,
    ClassificationAccuracy,
    MembraneUpdates,
    SynapticOperations,
)
from neurobench.models import TorchModel

from las_sj.analysis.neurobench import ConvertedClassifier, Stack

STATIC = [Footprint, ParameterCount, ConnectionSparsity]
WORKLOAD = [ClassificationAccuracy, ActivationSparsity, SynapticOperations, MembraneUpdates]
SAMPLES = 6
T = 8


class AsTorchModel(TorchModel):  # type: ignore[misc]
    """A network as NeuroBench takes it without an adapter."""

    def __call__(self, batch: Tensor) -> Tensor:
        classes: Tensor = self.net(batch[:, 0]).logits.argmax(-1)
        return classes


@pytest.fixture(scope="module")
def ann() -> Any:
    return bert(BertForSequenceClassification, num_labels=3)


@pytest.fixture(scope="module")
def snn(ann: Any) -> Any:
    return convert_tiny(ann, time_steps=T)


def loader(ann: Any, mask: Tensor | None = None, batch_size: int = 3) -> DataLoader[Any]:
    """Random tokens, with the ANN's own classes as labels."""
    ids = token_ids(SAMPLES)
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad():
        labels = ann(ids, attention_mask=mask).logits.argmax(-1)
    return DataLoader(TensorDataset(torch.stack([ids, mask], 1), labels), batch_size=batch_size)


def run(model: Any, data: DataLoader[Any], workload: list[Any] = WORKLOAD) -> dict[str, Any]:
    results: dict[str, Any] = Benchmark(model, data, [], [], [STATIC, workload]).run(quiet=True)
    return results


@pytest.fixture(scope="module")
def counted(ann: Any, snn: Any) -> tuple[dict[str, Any], SpikeMonitor]:
    """NeuroBench and SpikeMonitor on the very same calls."""
    with SpikeMonitor(snn) as monitor:
        results = run(ConvertedClassifier(snn), loader(ann), [*WORKLOAD, ActivationSparsityByLayer])
    return results, monitor


def test_accuracy(counted: tuple[dict[str, Any], SpikeMonitor], ann: Any) -> None:
    """The SNN gives the ANN's classes, which are not all the same."""
    assert counted[0]["ClassificationAccuracy"] == pytest.approx(1.0)
    assert len({int(label) for _, labels in loader(ann) for label in labels}) > 1


def test_spikes(counted: tuple[dict[str, Any], SpikeMonitor]) -> None:
    results, monitor = counted
    neurons = sum(site.neurons for site in monitor.sites.values())
    spikes = sum(site.spikes for site in monitor.sites.values())
    assert 0.5 < results["ActivationSparsity"] < 1
    assert results["ActivationSparsity"] == pytest.approx(1 - spikes / (T * neurons), abs=1e-12)


def test_spikes_by_site(counted: tuple[dict[str, Any], SpikeMonitor]) -> None:
    results, monitor = counted
    by_layer = results["ActivationSparsityByLayer"]
    assert set(by_layer) == set(monitor.sites)
    for name, site in monitor.sites.items():
        # Hooks and monitor watch different populations, so that last digits, and with them spikes, may differ.
        assert by_layer[name] == pytest.approx(1 - site.spikes / (T * site.neurons), abs=1e-2), name


def test_synaptic_operations(counted: tuple[dict[str, Any], SpikeMonitor], ann: Any) -> None:
    """One operation for each spike and synapse; all MACs, since spikes have levels; dense is T times the ANN."""
    results, monitor = counted
    operations = results["SynapticOperations"]
    sites = [site for site in monitor.sites.values() if site.site.feeds == "weights"]
    expected = sum(site.spikes * site.site.fan_out for site in sites)
    assert operations["Effective_MACs"] * SAMPLES == pytest.approx(expected, rel=5e-3)
    assert operations["Effective_ACs"] == 0
    weights = sum(
        layer.weight.numel()
        for name, layer in ann.named_modules()
        if name.startswith("bert.encoder.layer") and isinstance(layer, torch.nn.Linear)
    )
    by_token, by_sample = 10 * weights, ann.bert.pooler.dense.weight.numel() + ann.classifier.weight.numel()
    assert operations["Dense"] == T * (by_token + by_sample)
    assert run(AsTorchModel(ann), loader(ann))["SynapticOperations"]["Dense"] == by_token + by_sample


def test_what_it_cannot_see(counted: tuple[dict[str, Any], SpikeMonitor]) -> None:
    """Spikes that go into products and other neurons cause no operations for it, and membranes none at all."""
    results, monitor = counted
    elsewhere = [site for site in monitor.sites.values() if site.site.feeds != "weights"]
    assert sum(site.spikes for site in elsewhere) > 0
    assert results["MembraneUpdates"] == 0


def test_padding_is_counted(ann: Any, snn: Any) -> None:
    """NeuroBench takes padding for tokens, SpikeMonitor does not."""
    mask = padding_mask("right").repeat(2, 1)
    with SpikeMonitor(snn) as monitor:
        results = run(ConvertedClassifier(snn), loader(ann, mask))
    live = sum(site.spikes * site.site.fan_out for site in monitor.sites.values() if site.site.feeds == "weights")
    assert results["ClassificationAccuracy"] == pytest.approx(1.0)
    assert results["SynapticOperations"]["Effective_MACs"] * SAMPLES > 1.2 * live


def test_static_figures(ann: Any) -> None:
    """Every linear layer's weights are seen, each parameter once."""
    sparse = bert(BertForSequenceClassification, num_labels=3)
    for layer in (sparse.bert.pooler.dense, sparse.bert.encoder.layer[0].attention.self.query):
        layer.weight.data[::2] = 0
    snn = convert_tiny(sparse, time_steps=T)
    results, original = run(ConvertedClassifier(snn), loader(ann)), run(AsTorchModel(sparse), loader(ann))
    assert results["ConnectionSparsity"] == original["ConnectionSparsity"] > 0.03
    assert results["ParameterCount"] == sum(parameter.numel() for parameter in snn.parameters())
    tensors = [*snn.parameters(), *snn.buffers()]
    assert results["Footprint"] == sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_zero_weights_take_no_operations() -> None:
    """NeuroBench leaves them out of the effective operations, not of the dense ones."""
    sparse = bert(BertForSequenceClassification, num_labels=3)
    for module in sparse.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data.zero_()
    results = run(ConvertedClassifier(convert_tiny(sparse, time_steps=T)), loader(sparse))
    assert results["SynapticOperations"]["Effective_MACs"] == 0
    assert results["SynapticOperations"]["Dense"] > 0


def test_leaves_the_model_as_it_was(ann: Any, snn: Any) -> None:
    ids = token_ids()
    before = snn(ids).logits
    run(ConvertedClassifier(snn), loader(ann))
    assert torch.equal(snn(ids).logits, before)
    for module in snn.modules():
        kept = module._forward_hooks if not hasattr(module, "las_execution") else {}
        assert not kept, module
        assert not (isinstance(module, FedLinear) and module._forward_pre_hooks)


def test_stack() -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    texts = ["To be, or not to be", "Speak"]
    rows = [{**tokenizer(text), "label": label} for label, text in enumerate(texts)]
    inputs, labels = Stack(tokenizer)(rows)
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert torch.equal(inputs, torch.stack([expected[name] for name in tokenizer.model_input_names], 1))
    assert labels.tolist() == [0, 1]


class TestRefused:
    def test_not_converted(self, ann: Any) -> None:
        with pytest.raises(ValueError, match="is not a converted model"):
            ConvertedClassifier(ann)

    def test_analog(self, ann: Any) -> None:
        with pytest.raises(ValueError, match=r"bert.pooler.activation stayed analog"):
            ConvertedClassifier(convert_tiny(ann, keep_analog=("bert.pooler.activation",)))

    def test_conv1d(self) -> None:
        with pytest.raises(ValueError, match="GPT2ForSequenceClassification has Conv1D layers"):
            ConvertedClassifier(convert_tiny(gpt2(GPT2ForSequenceClassification, num_labels=3, pad_token_id=0)))


def test_not_imported_with_the_package() -> None:
    code = "import sys, las_sj, las_sj.analysis; sys.exit('neurobench' in sys.modules)"
    assert programs.run("-c", code).returncode == 0


def test_missing_extra() -> None:
    code = "import sys; sys.modules['neurobench'] = None; import las_sj.analysis.neurobench"
    done = programs.run("-c", code)
    assert re.search(
        r"ModuleNotFoundError: neurobench\S* not installed: pip install 'las_sj\[neurobench\]'", done.stderr
    )


def test_rate_codes(ann: Any) -> None:
    """Binary spikes are ACs, of the layers that they come to; other layers are MACs, once in each lane."""
    rates = convert_to_rates(ann)
    with SpikeMonitor(rates) as monitor:
        results = run(ConvertedClassifier(rates), loader(ann))
    sites = list(monitor.sites.values())
    spikes, neurons = sum(site.spikes for site in sites), sum(site.neurons for site in sites)
    assert results["ActivationSparsity"] == pytest.approx(1 - spikes / (4 * neurons), abs=1e-12)
    operations = results["SynapticOperations"]
    assert operations["Effective_ACs"] * SAMPLES == sum(site.spikes * site.site.fan_out for site in sites)
    fed = sum(site.neurons * site.site.fan_out for site in sites)
    linear = sum(macs.macs for name, macs in monitor.lane_macs.items() if not name.endswith("attention.self"))
    assert operations["Dense"] * SAMPLES == linear
    assert operations["Effective_MACs"] * SAMPLES == pytest.approx(
        linear - 4 * fed, rel=1e-3
    )  # of values that are not 0
