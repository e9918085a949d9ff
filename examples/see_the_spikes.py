"""Count the spikes of a converted model, and draw them.

python examples/see_the_spikes.py [--output PICTURE]
"""

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

import las_sj
from las_sj.analysis import SpikeMonitor, audit, plot_raster
from las_sj.checkpoint.loading import default_model


def main(output: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    model = AutoModelForCausalLM.from_pretrained(default_model())
    texts = (default_model() / "calibration.txt").read_text(encoding="utf-8").split("\n\n")[:32]
    batches = [tokenizer(text, return_tensors="pt", truncation=True, max_length=128) for text in texts]
    las_sj.convert(model, calibration=batches)

    batch = tokenizer("Good morrow, neighbour Baptista.", return_tensors="pt")
    with SpikeMonitor(model) as monitor:
        model(**batch)
    print(f"spikes per neuron, sites that feed weights: {monitor.spikes_per_neuron:.2f}")
    busiest = sorted(monitor.sites.items(), key=lambda item: -item[1].spikes_per_neuron)
    for name, site in busiest[:5]:
        print(f"{site.spikes_per_neuron:6.2f}  {site.outlier_share:6.1%} outliers  {name}")
    print(f"fully spike-driven: {audit(model, batch).fully_spike_driven}")
    plot_raster(model, batch).savefig(output, dpi=130)
    print(f"raster: {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("raster.png"))
    main(parser.parse_args().output)
