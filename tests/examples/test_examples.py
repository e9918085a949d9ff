"""Each example runs as it stands, says what it should, and writes into the current folder only."""

import csv
import re
from pathlib import Path

import pytest
from commands import contents
from programs import run

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBER = r"[\d.,]+(?:e-?\d+)?"
SAYS = {
    "add_a_family": (
        r"before: \d\d operations became spiking\n"
        r"after: \d\d modules became spiking, 0 stayed analog\n"
        r"relative error: \d\.\de-0[4-9]\n"
        r"fully spike-driven: True\n"
    ),
    "convert_and_generate": r"temporal: the same text\naccumulated: the same text\nROMEO:\nWhat light(.|\n)+",
    "energy_by_layer": (
        rf"\| layer \|.*\n\|( --- \|)+\n(\| transformer\.\S+ \|( {NUMBER} \|)+\n)+\| lm_head \|( {NUMBER} \|)+\n"
        rf"(SNN/ANN, \w+: {NUMBER}\n){{3}}table: energy.csv\n"
    ),
    "see_the_spikes": (
        r"spikes per neuron, sites that feed weights: [1-4]\.\d\d\n"
        r"( +\d+\.\d\d +\d+\.\d% outliers  transformer\.\S+\n){5}"
        r"fully spike-driven: True\nraster: raster.png\n"
    ),
}
WRITES = {
    "add_a_family": set(),
    "convert_and_generate": {"converted", "converted/config.json", "converted/model.safetensors"},
    "energy_by_layer": {"energy.csv"},
    "see_the_spikes": {"raster.png"},
}


def run_example(name: str, folder: Path, *arguments: str) -> str:
    anew = name == "convert_and_generate"
    done = run("-W", "error", EXAMPLES / f"{name}.py", *arguments, folder=folder, anew=anew)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS) == set(WRITES)


@pytest.mark.parametrize("name", list(SAYS))
def test_example(name: str, tmp_path: Path) -> None:
    before = contents(EXAMPLES)
    out = run_example(name, tmp_path)
    assert re.fullmatch(SAYS[name], out), out
    found = contents(tmp_path)
    assert found >= WRITES[name]
    assert {path.split("/")[0] for path in found} == {path.split("/")[0] for path in WRITES[name]}
    assert contents(EXAMPLES) == before
    CHECKS.get(name, lambda folder: None)(tmp_path)


def _check_table(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "energy.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["layer"] for row in rows][-1] == "lm_head"
    assert all(float(row["SNN level aware, µJ"]) > 0 for row in rows[2:])


def _check_picture(folder: Path) -> None:
    content = (folder / "raster.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 10_000


CHECKS = {"energy_by_layer": _check_table, "see_the_spikes": _check_picture}
