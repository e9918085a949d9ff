"""SpikingJelly's own recipes that convert a transformer without training, beside ours, on the same model and text.

    PYTHONPATH=benchmarks python benchmarks/peers/spikingjelly_recipes.py [--classifier sst2]

all-MiniLM-L6-v2 on 64 real sentences (hidden states of what is not padding), and a classifier of SST-2 on its
development split. TransformerTDEquivalent and STA take a model that torch.fx can trace: BERT's layers, as an example of
SpikingJelly writes them or with torch's MultiheadAttention. They begin after the embeddings, are given all of the input
at the first step, keep the mask, and end before the head of a classifier, whose tanh STA refuses. Our networks are run
in both executions. Memory is the peak of a fresh process that runs the largest batch; spikes per neuron, of up to eight
batches, spread evenly, are non-zero events of spike encoders (STA), or of the sites that feed weights (ours). Prints
Markdown tables.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, minilm, padded_batches, sentences
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter, STATransformerRecipe, TransformerTDEquivalentRecipe
from spikingjelly.activation_based.ann2snn.examples import bert_sst2_transformer_td_equivalent as example
from spikingjelly.activation_based.ann2snn.recipes.sta_transformer import _STASpikeEncoder
from timing import machine, now, peak_of, print_header, print_row
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.evaluation.counted import spread_evenly
from las_sj.evaluation.glue import TASKS, read_glue

CALIBRATION, EVALUATION = slice(0, 256), slice(700, 764)
SYSTEMS = (
    ("SpikingJelly TransformerTDEquivalent", 16),
    ("SpikingJelly STA equivalent", 16),
    ("SpikingJelly STA spiking_encoder", 16),
    ("SpikingJelly STA spiking_encoder", 32),
    ("las_sj, accumulated", 16),
    ("las_sj, temporal", 16),
    ("las_sj, temporal", 12),
)

Batch = dict[str, Tensor]
Run = Callable[[Batch], Tensor]


class Traceable(nn.Module):
    """The layers of a BERT as torch.fx can trace them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, embedded: Tensor, attn_mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(embedded, attn_mask)
        return hidden


class MultiheadLayer(nn.Module):
    """A layer of BERT with torch's own attention, which STA asks for."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        source, output = layer.attention.self, layer.attention.output
        self.attention = nn.MultiheadAttention(source.query.in_features, heads, batch_first=True)
        inputs = (source.query, source.key, source.value)
        self.attention.in_proj_weight = nn.Parameter(torch.cat([linear.weight for linear in inputs]))
        self.attention.in_proj_bias = nn.Parameter(torch.cat([linear.bias for linear in inputs]))
        self.attention.out_proj.load_state_dict(output.dense.state_dict())
        self.first_norm, self.second_norm = output.LayerNorm, layer.output.LayerNorm
        self.feed_forward = nn.Sequential(layer.intermediate.dense, nn.GELU(), layer.output.dense)

    def forward(self, hidden: Tensor, attn_mask: Tensor) -> Tensor:
        attended, _ = self.attention(hidden, hidden, hidden, need_weights=False, attn_mask=attn_mask)
        hidden = self.first_norm(attended + hidden)
        return self.second_norm(self.feed_forward(hidden) + hidden)


class MultiheadEncoder(nn.Module):
    """All layers, one after the other."""

    def __init__(self, source: Any, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiheadLayer(layer, heads) for layer in source.layer)

    def forward(self, hidden: Tensor, attn_mask: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, attn_mask)
        return hidden


def body_of(model: Any) -> Any:
    """The BERT without a head."""
    return model.bert if hasattr(model, "bert") else model


def traceable(name: str, model: Any) -> Traceable:
    """What a recipe can convert."""
    source = copy.deepcopy(model)
    encoder, config = body_of(source).encoder, source.config
    if "TransformerTD" in name:
        return Traceable(example.FXFriendlyBertEncoder(encoder, config)).eval()
    return Traceable(MultiheadEncoder(encoder, config.num_attention_heads)).eval()


def head_of(model: Any) -> Callable[[Tensor], Tensor]:
    """What follows the layers, as it is in the ANN."""
    return nn.Sequential(model.bert.pooler, model.classifier) if hasattr(model, "bert") else nn.Identity()


def embed(name: str, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Embeddings, and the mask that is added to scores, in the shape that the recipe's layers take."""
    embedded = body_of(model).embeddings(input_ids=batch["input_ids"], token_type_ids=batch.get("token_type_ids"))
    mask = (1.0 - batch["attention_mask"][:, None, None, :].float()) * -1e9
    if "TransformerTD" in name:
        return embedded, mask
    heads, length = model.config.num_attention_heads, mask.shape[-1]
    return embedded, mask.expand(-1, heads, length, -1).reshape(-1, length, length)


def recipe(name: str, steps: int, model: Any, calibration: list[Batch]) -> Any:
    """One of SpikingJelly's."""
    if "TransformerTD" in name:
        return TransformerTDEquivalentRecipe(time_steps=steps)
    mode = name.rsplit(" ", 1)[1]
    data = [dict(zip(("embedded", "attn_mask"), embed(name, model, batch), strict=True)) for batch in calibration]
    return STATransformerRecipe(None if mode == "equivalent" else data, time_steps=steps, mode=mode)


def of_spikingjelly(name: str, steps: int, model: Any, calibration: list[Batch]) -> tuple[Run, nn.Module]:
    """A run of a recipe, and the network."""
    converter = Converter(recipe=recipe(name, steps, model, calibration), device="cpu")
    converted = converter.convert(traceable(name, model)).eval()
    functional.set_step_mode(converted, "m")
    head = head_of(model)

    def run(batch: Batch) -> Tensor:
        functional.reset_net(converted)
        embedded, mask = embed(name, model, batch)
        return head(converted(example.make_first_real_then_zero_sequence(embedded, steps), mask).sum(0))

    return run, converted


def of_ours(name: str, steps: int, model: Any, calibration: list[Batch]) -> tuple[Run, nn.Module]:
    """A run of our network, and the network."""
    snn = las_sj.convert(copy.deepcopy(model), las_sj.LASConfig(time_steps=steps), calibration)
    las_sj.set_execution(snn, name.rsplit(" ", 1)[1])
    return lambda batch: snn(**batch)[0], snn


def system(name: str, steps: int, model: Any, calibration: list[Batch]) -> tuple[Run, nn.Module]:
    """Any row of the table."""
    return (of_ours if name.startswith("las_sj") else of_spikingjelly)(name, steps, model, calibration)


def count_events(network: nn.Module, run: Run, batches: list[Batch]) -> float | None:
    """Spikes per neuron and window; None where nothing spikes."""
    chosen = spread_evenly(batches)
    if hasattr(network, "las_coverage"):
        with SpikeMonitor(network) as monitor:
            for batch in chosen:
                run(batch)
        return monitor.spikes_per_neuron
    counts = [0, 0]

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        counts[0] += int((output != 0).sum())
        counts[1] += output[0].numel()

    encoders = [module for module in network.modules() if isinstance(module, _STASpikeEncoder)]
    handles = [module.register_forward_hook(hook) for module in encoders]
    for batch in chosen:
        run(batch)
    for handle in handles:
        handle.remove()
    return counts[0] / counts[1] if counts[1] else None


def of_minilm() -> tuple[Any, list[Batch], list[Batch], None]:
    """Model, calibration, evaluation, no labels."""
    model, tokenizer = minilm()
    texts = sentences()
    return model, padded_batches(tokenizer, texts[CALIBRATION]), padded_batches(tokenizer, texts[EVALUATION]), None


def of_classifier(folder: Path, rows: int | None) -> tuple[Any, list[Batch], list[Batch], Tensor]:
    """Model, calibration, evaluation, classes."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train, dev = (read_glue(TASKS["SST-2"], split, DATA / "glue") for split in ("train", "dev"))
    calibration = padded_batches(tokenizer, list(train["text_a"][: CALIBRATION.stop]))
    order = sorted(range(len(dev)), key=lambda index: len(dev["text_a"][index]))[:rows]
    texts = [dev["text_a"][index] for index in order]
    return model, calibration, padded_batches(tokenizer, texts, 16), torch.tensor(dev["label"])[order].long()


@torch.no_grad()
def prepare(load: Callable[[], Any], name: str, steps: int) -> Callable[[], object]:
    """For the measurement of memory: a call of the largest batch."""
    model, calibration, evaluation, _ = load()
    run = partial(lambda batch: model(**batch)[0]) if name == "ANN" else system(name, steps, model, calibration)[0]
    return partial(run, max(evaluation, key=lambda batch: batch["input_ids"].numel()))


@torch.no_grad()
def table(title: str, load: Callable[[], Any], memory: bool) -> None:
    """Print one table."""
    model, calibration, evaluation, labels = load()
    print(f"\n{title}, {sum(len(batch['input_ids']) for batch in evaluation)} rows\n")
    found = ["accuracy", "same predictions"] if labels is not None else ["1 − cosine, worst token"]
    columns = ["system", "T", "relative error", *found, "time, × ANN", "spikes per neuron"]
    print_header([*columns, "peak MiB", "× ANN's peak"] if memory else columns)
    reference, seconds = _outputs(lambda batch: model(**batch)[0], evaluation, labels)
    peak = peak_of(prepare, load, "ANN", 0)[1] if memory else 1.0
    quality = [f"{_accuracy(reference, labels):.4f}", ""] if labels is not None else [""]
    print_row(["ANN", "", "", *quality, "1.0", "", *([f"{peak:.0f}", "1.00"] if memory else [])])
    for name, steps in SYSTEMS:
        run, network = system(name, steps, model, calibration)
        outputs, taken = _outputs(run, evaluation, labels)
        error = float((outputs.double() - reference.double()).norm() / reference.double().norm())
        if labels is not None:
            same = float((outputs.argmax(-1) == reference.argmax(-1)).double().mean())
            quality = [f"{_accuracy(outputs, labels):.4f}", f"{100 * same:.2f} %"]
        else:
            quality = [f"{1 - float(torch.nn.functional.cosine_similarity(outputs, reference).min()):.1e}"]
        rate = count_events(network, run, evaluation)
        cells = [
            name,
            steps,
            f"{error:.1e}",
            *quality,
            f"{taken / seconds:.1f}",
            "none" if rate is None else f"{rate:.2f}",
        ]
        if memory:
            own = peak_of(prepare, load, name, steps)[1]
            cells += [f"{own:.0f}", f"{own / peak:.2f}"]
        print_row(cells)


def _outputs(run: Run, batches: list[Batch], labels: Tensor | None) -> tuple[Tensor, float]:
    """Logits, or hidden states of what is not padding, and the seconds that the calls took."""
    run(batches[0])
    outputs, seconds = [], 0.0
    for batch in tqdm(batches, leave=False):
        start = now()
        output = run(batch)
        seconds += now() - start
        outputs.append(output if labels is not None else output[batch["attention_mask"].bool()])
    return torch.cat(outputs), seconds


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(-1) == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", type=Path, help="folder of a classifier for SST-2")
    parser.add_argument("--rows", type=int, help="of its development split, the shortest ones (all)")
    parser.add_argument("--no-memory", action="store_true", help="measure no memory")
    arguments = parser.parse_args()
    print(machine())
    table("all-MiniLM-L6-v2", of_minilm, not arguments.no_memory)
    if arguments.classifier is not None:
        load = partial(of_classifier, arguments.classifier, arguments.rows)
        table(f"SST-2, classifier {arguments.classifier.name}", load, not arguments.no_memory)


if __name__ == "__main__":
    main()
