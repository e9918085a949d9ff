"""What a converted model would cost, layer by layer, beside the ANN.

docs/seeing_the_spikes.md says how the three accountings price it; print(report.formulas()) has the formulas.

    python examples/energy_by_layer.py [--output TABLE.csv]
"""

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

import las_sj
from las_sj.analysis import SpikeMonitor, energy_report, markdown_table
from las_sj.checkpoint.loading import default_model


def main(output: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    model = AutoModelForCausalLM.from_pretrained(default_model())
    texts = (default_model() / "calibration.txt").read_text(encoding="utf-8").split("\n\n")[:32]
    batches = [tokenizer(text, return_tensors="pt", truncation=True, max_length=128) for text in texts]
    las_sj.convert(model, calibration=batches)

    las_sj.set_execution(model, "accumulated")  # counts the same spikes, sooner
    with SpikeMonitor(model) as monitor:
        for batch in batches:
            model(**batch)
    report = energy_report(monitor, "fp32")
    print("\n".join(markdown_table(report.header("layer"), report.table("layer"))))
    for accounting in report.accountings:
        print(f"SNN/ANN, {accounting}: {report.ratio(accounting):.2f}")
    output.write_text(report.to_csv("layer"), encoding="utf-8")
    print(f"table: {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("energy.csv"))
    main(parser.parse_args().output)
