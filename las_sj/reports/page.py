"""The report of a converted model as one HTML page that needs no other file and no network."""

import base64
import io
from collections.abc import Iterable

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from las_sj.analysis.energies.energy import GROUPINGS
from las_sj.analysis.tables import Cell, Table, format_cell
from las_sj.data.output_file import MADE_BY
from las_sj.reports.model_report import ModelReport

DPI = 110


def to_html(report: ModelReport, pictures: Iterable[tuple[str, Figure]]) -> str:
    """Render the page.

    Args:
        report: as `examine` returns.
        pictures: captions and figures.
    """
    environment = Environment(
        loader=PackageLoader("las_sj.reports", "templates"), autoescape=True, undefined=StrictUndefined
    )
    tables = [(f"Energy by {by}", (report.energy.header(by), report.energy.table(by))) for by in GROUPINGS]
    return environment.get_template("page.html").render(
        title=report.title,
        made_by=MADE_BY,
        summary=report.summary_table()[1],
        energy_tables=[_section(*table) for table in tables],
        formulas=report.energy.formulas(),
        totals=_section("Totals", report.energy.totals_table()),
        audit=report.audit,
        tables=[
            _section("Audit: operations by class", report.audit.counts_table()),
            _section("Audit: every operation of a short temporal call", report.audit.table()),
            _section("Neurons, thresholds and tables", report.network.table()),
            _section("Spikes by site", report.sites_table()),
            _section("Settings", report.settings_table()),
        ],
        hardware=[] if report.hardware is None else [_section(*table) for table in report.hardware.tables()],
        pictures=[(caption, _as_png(figure)) for caption, figure in pictures],
    )


def _section(title: str, table: Table) -> dict[str, object]:
    return {"title": title, "header": table[0], "rows": cells_of(table[1])}


def cells_of(rows: list[list[Cell]]) -> list[list[tuple[str, str]]]:
    """Each cell as it is shown, and what it is sorted by."""
    return [[(format_cell(cell), "" if isinstance(cell, str) else repr(cell)) for cell in row] for row in rows]


def _as_png(figure: Figure) -> str:
    """Base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return base64.b64encode(buffer.getvalue()).decode()
