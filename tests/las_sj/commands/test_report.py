"""python -m las_sj.report and python -m las_sj.inspect, on a converted default model; the page in a real browser."""

import base64
import copy
import html
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import safetensors.torch
import torch
from tiny_models import bert, calibration_batches

import las_sj
from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.sample import SAMPLE, load_sample, save_sample
from las_sj.commands.command_line import BROKEN_PIPE
from las_sj.commands.command_line import run as run_command
from las_sj.commands.convert import main as convert_main
from las_sj.commands.inspect import main as inspect_main
from las_sj.commands.report import main as report_main
from las_sj.data.batches import shortened

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SCRIPT = "<script>alert(1)</script>"
TEXT = "First Citizen: Before we proceed any further, hear me speak.\nAll: Speak, speak.\n" * 20


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, converted to a short window."""
    folder = tmp_path_factory.mktemp("converted") / "out"
    options = ["--time-steps", "8", "--calibration-tokens", "1024", "--evaluation-tokens", "256", "--window", "64"]
    convert_main(["--output", str(folder), *options])
    return folder


@pytest.fixture(scope="module")
def page(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose name would be a script."""
    folder = shutil.copytree(converted, tmp_path_factory.mktemp("page") / "copy")
    report = json.loads((folder / "las_report.json").read_text())
    (folder / "las_report.json").write_text(json.dumps(report | {"model": SCRIPT}))
    report_main([str(folder), "--tokens", "128"])
    return folder / "report.html"


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail; returns its one line."""

    def call(command: Callable[[list[str]], None], *arguments: Any) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run_command(lambda: command([str(argument) for argument in arguments]))
        assert exit_.value.code not in (0, None)
        lines = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if "error:" in line]
        assert len(lines) == 1
        return lines[0]

    return call


def test_sample_is_evaluation_text(converted: Path) -> None:
    batches = load_sample(converted)
    assert sum(batch["input_ids"].numel() for batch in batches) == 256
    assert batches[0]["input_ids"].shape == (4, 64)


def test_size_of_the_sample(tmp_path: Path) -> None:
    batches = [{"input_ids": torch.ones(1, size, dtype=torch.long), "labels": torch.ones(1)} for size in (600, 1000)]
    save_sample(batches, tmp_path)
    assert [tuple(batch["input_ids"].shape) for batch in load_sample(tmp_path)] == [(1, 600), (1, 424)]
    assert all(set(batch) == {"input_ids"} for batch in load_sample(tmp_path))
    save_sample([{"input_ids": torch.ones(5, 400, dtype=torch.long)}], tmp_path)
    assert [tuple(batch["input_ids"].shape) for batch in load_sample(tmp_path)] == [(2, 400)]


def test_left_padding_is_not_audited() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    short = shortened({"input_ids": torch.arange(5)[None], "attention_mask": mask}, 2)
    assert short["input_ids"].tolist() == [[2, 3]]
    assert short["attention_mask"].tolist() == [[1, 1]]


@pytest.mark.parametrize("broken", [{}, [], {"quality": {}}, {"quality": {"relative_error": 1}, "coverage": 3}])
def test_report_of_another_shape(converted: Path, tmp_path: Path, broken: Any) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(converted, folder)
    (folder / "las_report.json").write_text(json.dumps(broken))
    report_main([str(folder), "--tokens", "16", "--no-equal-loss", "--format", "md"])
    assert "Fully spike-driven: yes" in (folder / "report.md").read_text()


def test_json(converted: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    report_main([str(converted), "--format", "json", "--output", str(output), "--tokens", "128"])
    report = json.loads(output.read_text())
    assert report["tokens"] == 128
    assert report["audit"]["fully_spike_driven"] is True
    assert report["energy"]["totals"]["paper"]["ratio"] > 0
    assert 2 <= report["energy"]["equal_loss_bits"] <= 24
    assert report["network"]["latency_steps"] == 8 * report["network"]["stages_on_longest_path"]
    assert report["conversion"]["quality"]["ann"]["perplexity"] > 1
    model, _ = load_converted(converted)
    las_sj.set_execution(model, "accumulated")
    sample = {"input_ids": load_sample(converted)[0]["input_ids"][:2]}
    with torch.no_grad(), SpikeMonitor(model) as monitor:
        model(**sample)
    assert report["spikes_per_neuron"] == pytest.approx(monitor.spikes_per_neuron)
    ratio = energy_report(monitor).ratio("level_aware")
    assert report["energy"]["totals"]["level_aware"]["ratio"] == pytest.approx(ratio)
    assert len(report["sites"]) == len(monitor.sites)
    assert not [path for path in tmp_path.iterdir() if path != output]


def test_markdown_and_other_text(converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    output = tmp_path / "report.md"
    options = ["--format", "md", "--text", str(tmp_path / "text.txt"), "--tokens", "100", "--window", "50"]
    report_main([str(converted), "--output", str(output), *options, "--costs", "int8", "--no-equal-loss"])
    text = output.read_text()
    assert f"{tmp_path / 'text.txt'}: 100 tokens in 2 sequences" in text
    assert "Fully spike-driven: yes" in text
    assert "E_MAC = 0.23 pJ, E_AC = 0.03 pJ" in text
    assert "with_memory_equal_loss" not in text
    for heading in ("## Energy", "## Audit", "## Neurons", "## Spikes by site", "## Settings"):
        assert heading in text
    shown = capsys.readouterr().out
    assert "Energy, SNN / ANN: paper" in shown
    assert str(output) in shown


def test_default_place(converted: Path) -> None:
    report_main([str(converted), "--format", "md", "--tokens", "32", "--no-equal-loss"])
    path = converted / "report.md"
    assert path.exists()
    path.unlink()
    assert not [name for name in converted.iterdir() if name.name.startswith(".")]


def test_page_needs_no_other_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://(?!doi)", text)
    pictures = [link.partition(",")[2] for link in links if link.startswith("data:")]
    assert len(pictures) >= 11  # energy, rasters, membrane, firing rates, histogram, and a fit of each function
    for picture in pictures:
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture)))
        assert image.std() > 0.02  # something is drawn


def test_names_are_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert SCRIPT not in text
    assert html.escape(SCRIPT) in text


def browse(page: Path, script: str, tmp_path: Path) -> str:
    """The page's document after a script has run in it, in a headless browser."""
    assert BROWSER is not None
    copied = tmp_path / "page.html"
    copied.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, "--virtual-time-budget=20000", "--dump-dom", copied.as_uri()], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    """Pictures load, no script fails, and a click on a heading sorts its table, numbers as numbers."""
    script = """
    const result = {errors: [], pictures: [...document.images].map(image => image.naturalWidth)};
    window.addEventListener("error", event => result.errors.push(event.message));
    const table = [...document.querySelectorAll("h3")].find(h => h.textContent === "Energy by operator")
      .nextElementSibling.querySelector("table");
    const shown = cell => cell.dataset.key ?? cell.textContent;
    const column = index => [...table.tBodies[0].rows].map(row => shown(row.cells[index]));
    const headings = table.tHead.rows[0].cells;
    result.before = column(2).map(Number);
    headings[2].click(); result.descending = column(2).map(Number); result.sort = headings[2].getAttribute("aria-sort");
    headings[2].click(); result.ascending = column(2).map(Number);
    headings[0].click(); headings[0].click(); result.names = column(0);
    result.verdict = document.getElementById("verdict").textContent;
    result.wide = document.documentElement.scrollWidth > window.innerWidth;
    const node = document.createElement("pre"); node.id = "result"; node.textContent = JSON.stringify(result);
    document.body.append(node);
    """
    document = browse(page, script, tmp_path)
    found = re.search(r'<pre id="result">(.*?)</pre>', document, re.DOTALL)
    assert found is not None
    result = json.loads(html.unescape(found[1]))
    assert result["errors"] == []
    assert len(result["pictures"]) >= 11
    assert min(result["pictures"]) > 300
    assert result["descending"] == sorted(result["before"], reverse=True) != result["before"]
    assert result["ascending"] == sorted(result["before"])
    assert result["sort"] == "descending"
    assert len(set(result["names"])) == len(result["names"]) > 30
    assert "yes" in result["verdict"]
    assert not result["wide"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_screenshot(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run([*command, "--window-size=1240,4000", f"--screenshot={picture}", page.as_uri()], capture_output=True)
    image = matplotlib.image.imread(picture)
    assert image.shape[:2] == (4000, 1240)
    bands = [image[start : start + 500].std() for start in range(0, 4000, 500)]
    assert min(bands) > 0.02  # nowhere blank


def test_inspect(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_main([str(converted), "--tokens", "20", "--format", "json"])
    network = json.loads(capsys.readouterr().out)
    assert network["tokens_per_sequence"] == 20
    assert network["time_steps"] == 8
    assert network["latency_steps"] == 8 * network["stages_on_longest_path"]
    assert network["populations"] == len(network["sites"])
    assert network["neurons_per_sequence"] == pytest.approx(sum(site["neurons"] for site in network["sites"]))
    inspect_main([str(converted)])
    shown = capsys.readouterr().out
    assert "time steps a window" in shown
    assert "transformer.h.0.attn.c_attn.input_node" in shown
    assert "theta_normal" in shown


def test_a_model_saved_without_a_sample(tmp_path: Path, fails: Callable[..., str], capsys: Any) -> None:
    snn = las_sj.convert(bert(), las_sj.LASConfig(time_steps=4), calibration_batches())
    snn.save_pretrained(tmp_path / "saved")
    assert "has no las_sample.safetensors: give a text with --text" in fails(report_main, tmp_path / "saved")
    (tmp_path / "text.txt").write_text(TEXT)
    assert "has no tokenizer: leave out --text" in fails(
        report_main, tmp_path / "saved", "--text", tmp_path / "text.txt"
    )
    inspect_main([str(tmp_path / "saved"), "--tokens", "5"])
    assert "encoder.layer.1.output.dense.input_node" in capsys.readouterr().out


@pytest.mark.parametrize("command", [report_main, inspect_main])
def test_no_converted_model(command: Any, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "there is no folder" in fails(command, tmp_path / "nothing")
    assert "holds no model (no config.json)" in fails(command, tmp_path)
    bert().save_pretrained(tmp_path / "ann")
    assert "is not converted: give the output of las-sj convert" in fails(command, tmp_path / "ann")


def test_broken_checkpoint(
    converted: Path, tmp_path: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(converted, folder)
    (folder / "model.safetensors").write_bytes(b"broken" * 100)
    assert "cannot be read" in fails(report_main, folder)
    assert not (folder / "report.html").exists()
    shutil.copy(converted / "model.safetensors", folder)
    (folder / SAMPLE).write_bytes(b"broken" * 100)
    assert "give a text with --text" in fails(report_main, folder)
    for name in ("0.input_ids", "lm_head.weight", "0.labels"):
        safetensors.torch.save_file({name: torch.ones(2)}, folder / SAMPLE)
        assert "holds no token ids" in fails(report_main, folder)
    inspect_main([str(folder), "--tokens", "3"])
    assert "counting for token 1 repeated instead" in capsys.readouterr().err
    config = json.loads((folder / "config.json").read_text())
    newer = copy.deepcopy(config)
    newer["quantization_config"]["format_version"] = 99
    (folder / "config.json").write_text(json.dumps(newer))
    assert "format version 99" in fails(inspect_main, folder)


def test_bad_arguments(converted: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "--tokens must be at least 2, got 1" in fails(report_main, converted, "--tokens", 1)
    assert "--window must be at least 2" in fails(report_main, converted, "--window", 0)
    assert "is a folder: give a file" in fails(report_main, converted, "--output", tmp_path)
    assert "cannot write" in fails(report_main, converted, "--output", tmp_path / "no" / "report.html")
    assert "cannot read text" in fails(report_main, converted, "--text", tmp_path / "no.txt")
    (tmp_path / "empty.txt").write_text(" \n")
    assert "is empty" in fails(report_main, converted, "--text", tmp_path / "empty.txt")
    assert "invalid choice: 'fp8'" in fails(report_main, converted, "--costs", "fp8")
    assert "--tokens must be at least 1" in fails(inspect_main, converted, "--tokens", 0)
    assert "--tokens must be at most 256" in fails(inspect_main, converted, "--tokens", 257)


def test_reader_that_stops_early(converted: Path) -> None:
    """`inspect DIR | head -1` ends without a word."""
    command = f"{sys.executable} -m las_sj.inspect {converted} --tokens 2"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{command} | head -1"], capture_output=True)
    assert done.returncode in (0, BROKEN_PIPE)
    assert b"error" not in done.stderr
    assert b"Error" not in done.stderr
