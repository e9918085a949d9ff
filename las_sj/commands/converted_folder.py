"""The folder of a converted model: model, processors, a sample of data, reports and a picture."""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from las_sj.analysis import plot_raster
from las_sj.checkpoint.model_card import model_card
from las_sj.checkpoint.placement import input_device
from las_sj.checkpoint.sample import save_sample
from las_sj.commands.command_line import program
from las_sj.commands.convert_request import ConvertRequest
from las_sj.data.batches import shortened, to_device, without_padding
from las_sj.data.output_folder import CONVERSION, whole_folder
from las_sj.data.processors import Processors
from las_sj.data.text import TextBatch
from las_sj.models import running, set_execution
from las_sj.reports.conversion_report import ConversionReport

RASTER_TOKENS = 24
GAP_TOKENS = 96


def write_converted(
    request: ConvertRequest,
    snn: PreTrainedModel,
    processors: Processors,
    evaluation: Sequence[TextBatch],
    report: ConversionReport,
) -> str:
    """Write the folder, whole or not at all.

    Args:
        request: says where it goes.
        snn: the converted model.
        processors: of the model.
        evaluation: batches that the report is of.
        report: of the conversion.

    Returns:
        What was written, and what to look at it with.
    """
    output = request.output
    with whole_folder(output, request.overwrite, CONVERSION, request.inputs) as folder:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded modules")
            snn.save_pretrained(folder)
        processors.save(folder)
        save_sample(evaluation, folder)
        content = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        (folder / CONVERSION.report).write_text(content, encoding="utf-8")
        (folder / "las_report.md").write_text(report.to_markdown(), encoding="utf-8")
        card = model_card(
            report.model, report.architecture, report.settings, report.versions["las_sj"], report.figures().strip()
        )
        card.save(folder / "README.md")
        plot_raster(snn, _beginning(snn, evaluation[0], RASTER_TOKENS)).savefig(folder / "raster.png", dpi=130)
    return (
        f"Written to {output}: config.json, model.safetensors, README.md, las_report.json, raster.png, …\n"
        f"Look at it: {program('report')} {output}   {program('inspect')} {output}"
    )


@torch.no_grad()
def executions_gap(snn: PreTrainedModel, batch: TextBatch) -> float:
    """‖temporal − accumulated‖/‖accumulated‖ of the first output for one sequence; leaves the model temporal.

    Of LAS it is rounding alone. Of rate codes it is the error of the method: that of the SNN against the quantised ANN.
    """
    short = _beginning(snn, batch, GAP_TOKENS)
    with running(snn, "accumulated"):
        accumulated = without_padding(short, snn(**short)[0])
    set_execution(snn, "temporal")
    temporal = without_padding(short, snn(**short)[0])
    return float((temporal - accumulated).norm() / accumulated.norm())


def _beginning(snn: PreTrainedModel, batch: TextBatch, tokens: int) -> dict[str, Any]:
    """The first tokens of a batch's first sequence, where the model takes them."""
    return shortened(to_device(batch, input_device(snn)), tokens)
