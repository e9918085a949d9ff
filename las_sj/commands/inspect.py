"""The command `las-sj inspect`: where are the spiking neurons?"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import Network, SpikeMonitor, audit, describe_network
from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.placement import input_device
from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.sample import SampleError, load_sample, sample_of
from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device, check_device_name
from las_sj.commands.media_options import add_trust
from las_sj.conversion.media_batches import media_batches, model_batch
from las_sj.data.batches import Batch, shortened, to_device
from las_sj.data.modalities import modalities_of
from las_sj.data.noise import noise_examples
from las_sj.data.text import longest_sequence, tokens_known
from las_sj.models import execution_of, running, set_execution

AUDIT_TOKENS = 2


@dataclass(frozen=True)
class InspectRequest:
    """A look at a converted model.

    Attributes:
        folder: of the model.
        tokens: length of the sequence of text to count for.
        format: "md" or "json".
        device: for the weights.
        trust: whether code that comes with the model may run.

    Raises:
        ValueError: there are no tokens, or no such device.
    """

    folder: Path
    tokens: int = 32
    format: str = "md"
    device: str = "cpu"
    trust: bool = False

    def __post_init__(self) -> None:
        at_least("tokens", self.tokens, 1)
        check_device_name(self.device)


def parse_arguments(arguments: list[str] | None = None) -> InspectRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "inspect", "Populations of neurons of a converted model, their thresholds and tables, and its latency."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of las-sj convert")
    parser.add_argument("--tokens", type=int, metavar="N", help="length of the sequence to count for (32)")
    parser.add_argument("--format", choices=("md", "json"), help="printed as Markdown or JSON (md)")
    parser.add_argument("--device")
    add_trust(parser)
    return parser.request(arguments, lambda given: InspectRequest(**given))


def main(argument_list: list[str] | None = None) -> None:
    """Count, and print."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    model, _ = load_converted(request.folder, request.device, request.trust)
    longest = longest_sequence(model.config)
    if longest is not None and request.tokens > longest:
        raise ValueError(f"--tokens must be at most {longest}, the longest sequence of the model")
    network = inspect_network(model, batch_for(model, request))
    print(json.dumps(network.to_dict(), indent=1) if request.format == "json" else network.to_markdown())


def batch_for(model: PreTrainedModel, request: InspectRequest) -> Batch:
    """What a model is counted for: a sequence of text, or the first of the sample kept with it, or noise."""
    takes = modalities_of(type(model))
    if takes.only_text and not takes.decoder:
        return sequence(request.folder, request.tokens, tokens_known(model))
    try:
        return shortened(sample_of(model, request.folder)[0], request.tokens)
    except SampleError as error:
        print(f"{str(error).partition(': give')[0]}; counting for noise instead", file=sys.stderr)
    if takes.only_text:
        return model_batch(model, {"input_ids": torch.ones(1, request.tokens, dtype=torch.long)})
    processors = load_processors(request.folder, takes, request.trust)
    return media_batches(model, processors, takes, noise_examples(takes, processors, 1, 0), 1)[0]


def sequence(folder: Path, tokens: int, known: int) -> Batch:
    """One sequence of that many tokens: of the sample kept with the model, repeated as needed, or token 1 alone."""
    try:
        batch = load_sample(folder, known)[0]
    except SampleError as error:
        print(f"{error}; counting for token 1 repeated instead", file=sys.stderr)
        return {"input_ids": torch.ones(1, tokens, dtype=torch.long)}
    ids = batch["input_ids"][0]
    mask = batch.get("attention_mask")
    ids = ids if mask is None else ids[mask[0].bool()]
    return {"input_ids": ids.repeat(-(-tokens // len(ids)))[None, :tokens]}


@torch.no_grad()
def inspect_network(model: PreTrainedModel, batch: Batch) -> Network:
    """The populations of `model` in a call on `batch`; leaves the model temporal."""
    batch = to_device(batch, input_device(model))
    set_execution(model, "temporal")
    with tqdm(total=2, desc="counting neurons", leave=False) as progress:
        with running(model, execution_of(model).counted_in), SpikeMonitor(model) as monitor:
            model(**batch)
        progress.update()
        progress.set_description("looking for the longest way through the network")
        found = audit(model, shortened(batch, AUDIT_TOKENS))
        progress.update()
    return describe_network(monitor, found.stages)
