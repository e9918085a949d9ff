"""One layer of OPT-66B, or of another size, in each execution: what a large model would take, worked out from it.

    python benchmarks/large_layer.py

A model of one layer with random weights, which serve for time and memory only. Prints the measured figures, and the
sums for all layers: memory when all weights are held, when one layer at a time is, and the time of reading all of them.
"""

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import OPTConfig, OPTModel

import las_sj

GIB = 2**30


def resident() -> float:
    """Memory of this process that is no file's, GiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith("RssAnon"))


def measured(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call, and how far memory rose above what there was before, GiB."""
    before, peak, ended = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    return seconds, max(0.0, peak[0] - before)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=9216)
    parser.add_argument("--heads", type=int, default=72)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=50272)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--read", type=float, default=3.0, metavar="GB/S", help="speed of reading weights (3)")
    arguments = parser.parse_args()
    config = OPTConfig(
        vocab_size=512,
        hidden_size=arguments.hidden,
        num_hidden_layers=1,
        num_attention_heads=arguments.heads,
        ffn_dim=4 * arguments.hidden,
        word_embed_proj_dim=arguments.hidden,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    model = OPTModel(config).eval()
    layer = sum(parameter.numel() for parameter in model.decoder.layers[0].parameters())
    tokens = torch.randint(4, 512, (1, arguments.tokens))
    rows = [("ANN", *measured(lambda: model(tokens)))]
    settings = las_sj.LASConfig(time_steps=arguments.time_steps)
    rows.append(
        (
            "convert, the tokens as calibration",
            *measured(lambda: las_sj.convert(model, settings, [{"input_ids": tokens}])),
        )
    )
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(model, execution)
        rows.append((execution, *measured(lambda: model(tokens))))
    print(
        f"One layer, {layer / 1e9:.3f} billion weights, fp32, {arguments.tokens} tokens, T = {arguments.time_steps}:\n"
    )
    print("| one layer | seconds | memory beyond the weights, GiB | × ANN |\n| --- | --- | --- | --- |")
    for name, seconds, memory in rows:
        print(f"| {name} | {seconds:.2f} | {memory:.2f} | {seconds / rows[0][1]:.1f} |")
    embedding = arguments.vocabulary * arguments.hidden
    total = arguments.layers * layer + embedding
    print(f"\nAll {arguments.layers} layers and the embedding, {total / 1e9:.1f} billion weights:\n")
    print(
        "| precision of weights | all held, GiB | largest part at a time, GiB | reading all once, seconds |\n"
        + "| --- " * 4
        + "|"
    )
    for name, width in (("fp32", 4), ("bf16", 2)):
        part = max(layer, embedding) * width / GIB
        print(f"| {name} | {total * width / GIB:.0f} | {part:.1f} | {total * width / 1e9 / arguments.read:.0f} |")
    print(f"\n| execution | this machine, minutes for {arguments.tokens} tokens |\n| --- | --- |")
    for name, seconds, _ in rows:
        print(f"| {name} | {arguments.layers * seconds / 60:.1f} |")


if __name__ == "__main__":
    main()
