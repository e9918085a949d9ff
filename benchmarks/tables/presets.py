"""What the presets of `convert` lose and take on public models.

    PYTHONPATH=benchmarks python benchmarks/tables/presets.py [CLASSIFIER …] [--tokens 16384] [--work DIR]

Models and data are those of `benchmarks/tables/pareto.py`. Stages are those of a call with four tokens. With --work,
finished rows are kept: the same command goes on after an interruption. Prints a Markdown table.
"""

import copy
from collections.abc import Iterator
from functools import partial

from cases import Case, Row, cases, kept_row, metric_of, parser_of
from support import print_origin
from timing import print_header, print_row

import las_sj
from las_sj.analysis import audit
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.presets import PRESETS, settings_of

AUDITED = 4  # tokens: stages do not depend on their number


def row_of(case: Case, preset: str) -> Row:
    """What a preset loses on the test data."""
    snn = las_sj.convert(copy.deepcopy(case.ann), las_sj.LASConfig.preset(preset), case.calibration)
    stages = audit(snn, {"input_ids": case.evaluation[0]["input_ids"][:1, :AUDITED]}).stages
    las_sj.set_execution(snn, "accumulated")
    row: Row = {"stages": stages, "measured": measure(snn, case.evaluation, f"evaluating {preset}").to_dict()}
    if case.classifier is not None:
        row |= {"ann": metric_of(case, case.ann), "snn": metric_of(case, snn)}
    return row


def cells_of(case: Case, preset: str, row: Row) -> Iterator[str]:
    """A row of the table."""
    config, found = las_sj.LASConfig.preset(preset), Measurement.from_dict(row["measured"])
    yield from (preset, str(config.time_steps), str(config.levels), str(row["stages"]))
    yield f"{100 * found.loss:.2g} ± {100 * found.loss_interval:.1g} %"
    if case.classifier is None:
        yield f"{found.perplexity_change:+.2g} ± {found.perplexity_interval:.1g} %"
    else:
        yield f"{row['ann']:.1f} → {row['snn']:.1f}"
    yield f"{found.spikes_per_neuron:.2f}"
    yield from (f"{found.ratios[name]:.3f}" for name in ("paper", "level_aware", "with_memory"))


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    for case in cases(arguments):
        print_origin(case.name)
        columns = ["preset", "T", "levels", "stages", "loss", case.change, "spikes per neuron"]
        print_header([*columns, "paper", "level-aware", "with memory"])
        for preset in PRESETS:
            key = [case.digest, preset, settings_of(preset)]
            row = kept_row(arguments.work, key, partial(row_of, case, preset))
            print_row([*cells_of(case, preset, row)])


if __name__ == "__main__":
    main()
