"""Zero-shot tasks of lm-eval, ANN beside SNN: Table 1 of the LAS paper.

    PYTHONPATH=benchmarks python benchmarks/tables/zero_shot.py [--work DIR]

SmolLM2-135M, or any language model, on the first 500 questions of each task, calibrated on 4,096 tokens of WikiText-2's
validation text, accumulated execution. With --work, finished batches are kept, and the same command goes on after an
interruption. Prints a Markdown table.
"""

import argparse
import copy
import tempfile
from contextlib import nullcontext
from pathlib import Path

from real_models import DATA, smollm2
from support import print_origin
from timing import print_header, print_row

import las_sj
from las_sj.checkpoint.loading import load_model
from las_sj.data.text import longest_sequence, read_text, token_windows
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.markdown import HEADER, metric_rows
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.zero_shot import evaluate_zero_shot, load_tasks

TASKS = ("copa", "wsc273", "winogrande", "openbookqa", "piqa", "arc_easy", "lambada_openai", "arc_challenge")
PAPER = "the paper, OPT-2.7B … 66B: each task within about one point of the ANN (arXiv 2505.09659, Table 1)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a language model (SmolLM2-135M)")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--calibration", type=Path, default=DATA / "wikitext-2" / "valid.txt")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--work", type=Path, help="folder for finished batches")
    arguments = parser.parse_args()
    ann, tokenizer = smollm2() if arguments.model is None else load_model(arguments.model)
    window = min(512, longest_sequence(ann.config) or 512)
    calibration = token_windows(tokenizer, read_text(arguments.calibration), 4096, window, 1)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=arguments.time_steps), calibration)
    las_sj.set_execution(snn, "accumulated")
    print_origin(f"T = {arguments.time_steps}, up to {arguments.limit} questions of each task, 0-shot")
    print_header([*HEADER, "questions", "time, SNN / ANN", "spikes per neuron", "energy (paper)"])
    scratch = tempfile.TemporaryDirectory() if arguments.work is None else nullcontext(str(arguments.work))
    fingerprint = {"limit": arguments.limit, "batch_size": arguments.batch_size, "weights": digest_of(snn.state_dict())}
    with scratch as folder:
        journal = Journal(Path(folder) / "finished", fingerprint)
        for name in arguments.tasks:
            for task in load_tasks(name, arguments.data):
                pair = Pair(ann, snn, tokenizer)
                result = evaluate_zero_shot(task, pair, journal, arguments.batch_size, arguments.limit, 0)
                assert result is not None
                costs = [f"{result.time_ratio:.2f}", f"{result.spikes_per_neuron:.3f}", f"{result.energy['paper']:.3f}"]
                for cells in metric_rows([result]):
                    print_row([*cells, result.rows, *costs])
    print(f"\n{PAPER}")


if __name__ == "__main__":
    main()
