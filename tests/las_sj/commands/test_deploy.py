"""The command `las-sj deploy`, and the section of its findings in a report."""

import json
import os
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import matplotlib.image
import pytest
from commands import Run, assert_one_line, contents
from programs import ENVIRONMENT, started
from tiny_models import gpt2, save

import las_sj.hardware.deployment as deployment_module
from las_sj.commands.convert import main as convert_main
from las_sj.commands.deploy import main
from las_sj.commands.report import main as report_main
from las_sj.hardware.chip_file import installed_chip
from las_sj.reports.hardware_section import read_hardware

TEXT = "All: Speak, speak.\n\nFirst Citizen: You are all resolved rather to die than to famish?\n" * 12
HAS_SANA_FE = find_spec("sanafe") is not None
WRITTEN = {"las_hardware.md", "las_hardware.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with the default model's tokenizer, converted."""
    place = tmp_path_factory.mktemp("deployed")
    save(gpt2(vocab_size=512), place / "gpt2")
    (place / "text.txt").write_text(TEXT)
    data = ["--calibration", place / "text.txt", "--calibration-tokens", 128, "--evaluation-tokens", 64]
    options = ["--window", 32, "--time-steps", 6, "--levels", 3]
    convert_main([str(each) for each in (place / "gpt2", "--output", place / "out", *data, *options)])
    return place / "out"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def test_one_screen_and_two_files(run: Run, copy: Path) -> None:
    before = contents(copy)
    made = run(main, copy, "--tokens", 6)
    assert made.code == 0, made.err
    assert contents(copy) - before == WRITTEN
    for line in (
        "chip ",
        "limits that bind",
        "messages per token",
        "latency of a token",
        "energy per token",
        "not in it",
    ):
        assert line in made.out
    found = json.loads((copy / "las_hardware.json").read_text())
    assert found["tokens"] == 6
    assert found["latency_steps"] == found["stages"] * 6
    assert found["per_token"]["energy_pj"]["synapse"] == pytest.approx(found["per_token"]["events"] * 35.5)
    assert [row[0] for row in found["summary"]] == [
        line.split("  ")[0] for line in made.out.splitlines() if not line.startswith("Written")
    ]
    assert run(main, copy, "--tokens", 6).out == made.out  # again, in the place of its own files
    assert (copy / "las_hardware.md").read_text().startswith("# ")


def test_more_cores_take_less_time(run: Run, copy: Path) -> None:
    seconds = []
    for cores in (1, 4):
        assert run(main, copy, "--tokens", 4, "--cores-per-layer", cores).code == 0
        seconds.append(json.loads((copy / "las_hardware.json").read_text())["step_seconds"]["mean"])
    assert seconds[1] < seconds[0]


def test_the_page_shows_it(run: Run, copy: Path) -> None:
    assert run(main, copy, "--tokens", 4).code == 0
    assert run(report_main, copy, "--tokens", 16, "--no-equal-loss").code == 0
    page = (copy / "report.html").read_text()
    assert page.count("On loihi") >= 2
    assert "Traffic on loihi" in page
    section = read_hardware(copy)
    assert section is not None
    assert len(section.pictures()) == 2
    for number, (_, draw) in enumerate(section.pictures()):
        draw().savefig(copy / f"{number}.png")
        assert matplotlib.image.imread(copy / f"{number}.png").std() > 0
    weight_cores = json.loads((copy / "las_hardware.json").read_text())["weight_cores"]
    assert sum(cores for _, _, cores in section.weights) == weight_cores
    whole = json.loads((copy / "las_hardware.json").read_text())
    changes = {
        "weights": [["a", "none", -1]],
        "time_steps": float("inf"),
        "steps": {"messages": [1], "seconds": [1, 2]},
    }
    for key, value in changes.items():
        (copy / "las_hardware.json").write_text(json.dumps(whole | {key: value}))
        assert read_hardware(copy) is None, key
    (copy / "las_hardware.json").write_text(json.dumps(whole))
    for damage in ("", "{}", json.dumps({"made_by": "somebody else"}), (copy / "las_hardware.json").read_text()[:-40]):
        (copy / "las_hardware.json").write_text(damage)
        assert read_hardware(copy) is None


@pytest.mark.parametrize(
    ("options", "says", "code"),
    [
        (("--chip", "loihi3"), "chip must be one of loihi, loihi2, spinnaker2, truenorth", 2),
        (("--chip", "/nowhere.yaml"), "/nowhere.yaml cannot be read: No such file", 1),
        (
            ("--chip", "truenorth"),
            "no core of truenorth holds one neuron of .* convert with smaller tables .--hg-lines",
            1,
        ),
        (("--weight-bits", 1), "--weight-bits must be from 2 to 32, got 1", 2),
        (("--weight-bits", 33), "--weight-bits must be from 2 to 32, got 33", 2),
        (("--chips", 0), "chips must be from 1 to 1000000, got 0", 2),
        (("--context", 0), "context must be from 1 to 10000000, got 0", 2),
        (("--context", 10**8), "context must be from 1 to 10000000, got 100000000", 2),
        (("--tokens", 1), "tokens must be", 2),
        (("--timing", "simple"), "--timing belongs to --engine sanafe", 2),
        (("--engine", "lava"), "invalid choice", 2),
        (("--context", 2_000_000), "no core of loihi holds one neuron of .*key_node, .*give a smaller --context", 1),
        (("--text", "/nowhere.txt"), "/nowhere.txt", 1),
    ],
)
def test_bad_requests(run: Run, folder: Path, options: tuple[object, ...], says: str, code: int) -> None:
    before = contents(folder)
    assert_one_line(run(main, folder, *options), says, code)
    assert contents(folder) == before


BAD_CHIPS = {
    "not YAML": ("architecture: [", "is not YAML"),
    "no chip": ("a: 1\n", "does not describe a chip: architecture is missing"),
    "a list": ("- 1\n", "describes no architecture"),
    "brackets": ("[" * 5000 + "]" * 5000, "does not describe a chip: a part of it has another form"),
}


@pytest.mark.parametrize("case", BAD_CHIPS)
def test_bad_chip_files(run: Run, copy: Path, case: str) -> None:
    content, says = BAD_CHIPS[case]
    (copy.parent / "chip.yaml").write_text(content)
    assert_one_line(run(main, copy, "--chip", copy.parent / "chip.yaml"), says)
    assert not WRITTEN & contents(copy)


def test_a_chip_of_ones_own(run: Run, copy: Path) -> None:
    """A file of SANA-FE's kind, without SANA-FE; on a chip that is too small the message says how many are needed."""
    chip = Path(__file__).parents[1] / "hardware" / "chip.yaml"
    made = run(main, copy, "--chip", chip, "--tokens", 4, "--chips", 100)
    assert made.code == 0, made.err
    assert json.loads((copy / "las_hardware.json").read_text())["chip"]["synapse_bits"] is None


def test_without_sana_fe(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("las_sj.extras.find_spec", lambda name: None)
    assert_one_line(run(main, copy, "--engine", "sanafe"), r"sanafe not installed: pip install 'las_sj\[hardware\]'")
    assert not WRITTEN & contents(copy)
    assert run(main, copy, "--tokens", 4).code == 0


@pytest.mark.skipif(not HAS_SANA_FE, reason="the extra hardware is not installed")
def test_a_replay_by_sana_fe(run: Run, copy: Path) -> None:
    made = run(main, copy, "--engine", "sanafe", "--tokens", 4, "--cores-per-layer", 2)
    assert made.code == 0, made.err
    text = (copy / "las_hardware.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| synaptic events |"))
    _, _, theirs, ours, _ = row.split("|")
    assert theirs.strip() == ours.strip() != "0"
    assert_one_line(run(main, copy, "--engine", "sanafe", "--chip", "loihi2"), "SANA-FE knows no loihi2")
    without_costs = installed_chip("truenorth")
    assert run(main, copy, "--engine", "sanafe", "--tokens", 2, "--chip", without_costs).code == 0
    assert "| energy per token | not published | not published |" in (copy / "las_hardware.md").read_text()
    replayed = json.loads((copy / "las_hardware.json").read_text())["replay"]
    assert {*replayed["energy_pj"].values()} == {replayed["seconds"]} == {None}


@pytest.mark.skipif(not HAS_SANA_FE, reason="the extra hardware is not installed")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process in /proc")
@pytest.mark.parametrize("ended", ["the replay is killed", "the command is interrupted", "the command is killed"])
def test_an_end_while_it_replays(ended: str, copy: Path, tmp_path: Path) -> None:
    """Nothing half-written, one line from whoever is there to say it, and no process of SANA-FE goes on."""
    before = contents(copy)
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    command = ("-m", "las_sj.deploy", copy, "--engine", "sanafe", "--tokens", 32)
    with started(*command, environment=environment) as running:
        while (child := replaying(running.process.pid)) is None:
            assert not running.ended, running.err.read_text()
            time.sleep(0.005)
        if ended == "the replay is killed":
            os.kill(child, signal.SIGKILL)
        else:
            running.send(signal.SIGINT if ended == "the command is interrupted" else signal.SIGKILL)
        code, last = running.wait(), running.err.read_text().strip().rsplit("\n", 1)[-1]
    if ended == "the replay is killed":
        assert (code, "error: SANA-FE was killed" in last) == (1, True), last
    elif ended == "the command is interrupted":
        assert (code, last.endswith("interrupted: nothing was written")) == (130, True), last
    else:
        assert code == -signal.SIGKILL
    for _ in range(2000):  # a replay looks every few steps whether somebody waits for it
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()
    assert contents(copy) == before
    assert ended == "the command is killed" or not [*(tmp_path / "tmp").iterdir()]


def replaying(parent: int | None) -> int | None:
    """Number of the process that replays for another one."""
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in children.read_text(encoding="utf-8").split():
            if b"replay_process.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def test_an_end_before_its_time_leaves_nothing(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = contents(copy)
    monkeypatch.setattr(deployment_module, "audit", end)
    ended = run(main, copy, "--tokens", 4)
    assert ended.code == 130
    assert ended.visible[-1] == "interrupted: nothing was written"
    assert contents(copy) == before
    (copy / "las_hardware.md").write_text("my own notes")
    assert_one_line(run(main, copy), "las_hardware.md exists, and was not written by las-sj deploy")
