"""Output replaces what earlier runs wrote, and nothing else, least of all what is read."""

import json
import os
from pathlib import Path

import pytest
from commands import contents

from las_sj.checkpoint.model_card import model_card
from las_sj.config import LASConfig
from las_sj.data.output_file import MADE_BY, check_file, whole_file
from las_sj.data.output_folder import CONVERSION, EVALUATION, FINE_TUNING, Output, check_output, whole_folder
from las_sj.data.owned_folder import LOCK
from las_sj.data.writing import OutputError

KINDS = (CONVERSION, EVALUATION, FINE_TUNING)


def written(folder: Path, output: Output, *names: str) -> Path:
    """An output, as a run writes it."""
    with whole_folder(folder, overwrite=False, output=output) as new:
        (new / output.report).write_text("{}")
        for name in names:
            (new / name).write_text("ours")
    return folder


def older(output: Output) -> str:
    """A report of a version that listed no files."""
    return json.dumps(dict.fromkeys(output.entries))


@pytest.mark.parametrize("output", KINDS, ids=lambda output: output.report)
def test_files_are_listed_and_replaced(output: Output, tmp_path: Path) -> None:
    """Whatever their names: the report says that they are ours."""
    out = written(tmp_path / "out", output, "odd.name")
    assert json.loads((out / output.report).read_text())["files"] == sorted([output.report, "odd.name"])
    with whole_folder(out, overwrite=True, output=output) as new:
        (new / output.report).write_text("{}")
    assert contents(tmp_path) == {"out", f"out/{output.report}"}


@pytest.mark.parametrize("output", KINDS, ids=lambda output: output.report)
@pytest.mark.parametrize("name", ["thesis.tex", "notes/", "link", "deep/model.safetensors"])
def test_foreign_files_are_named_and_stay(output: Output, name: str, tmp_path: Path) -> None:
    out = written(tmp_path / "out", output, "config.json")
    if name == "link":
        (out / name).symlink_to(tmp_path)
    elif name.endswith("/"):
        (out / name).mkdir()
    else:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=rf"did not write \({name.split('/')[0]}\): move it away"):
        check_output(out, overwrite=True, output=output)
    assert contents(tmp_path) == before


def test_many_foreign_files(tmp_path: Path) -> None:
    out = written(tmp_path / "out", EVALUATION, *"abcde")
    (out / EVALUATION.report).write_text(older(EVALUATION))  # known names alone are ours
    with pytest.raises(OutputError, match=r"\(a, b, c, …\)"):
        check_output(out, overwrite=True, output=EVALUATION)


def test_an_older_output(tmp_path: Path) -> None:
    """Without a list in its report."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "tokenizer_config.json", "raster.png"):
        (out / name).write_text("ours")
    (out / "report.md").write_text(MADE_BY)
    (out / CONVERSION.report).write_text(older(CONVERSION))
    check_output(out, overwrite=True)


@pytest.mark.parametrize("output", KINDS, ids=lambda output: output.report)
@pytest.mark.parametrize("report", ["", "{}", "[]", '{"model": "gpt2"}', '{"files": 3}', "[" * 100_000])
def test_a_report_that_no_run_wrote(output: Output, report: str, tmp_path: Path) -> None:
    """It says nothing of the files beside it."""
    (tmp_path / output.report).write_text(report)
    (tmp_path / "config.json").write_text("precious")
    with pytest.raises(OutputError, match=f"its {output.report} is no report of one.: give another folder"):
        check_output(tmp_path, overwrite=True, output=output)


@pytest.mark.parametrize("name", ["report.html", "report.md", "report.json"])
def test_a_report_of_somebody_else(name: str, tmp_path: Path) -> None:
    """Which las-sj report would leave alone, too."""
    out = written(tmp_path / "out", CONVERSION)
    (out / name).write_text("precious")
    with pytest.raises(OutputError, match=rf"did not write \({name}\): move it away"):
        check_output(out, overwrite=True)


@pytest.mark.parametrize("listed", [True, False])
def test_a_readme_of_somebody_else(listed: bool, tmp_path: Path) -> None:
    out = written(tmp_path / "out", CONVERSION, "README.md")
    if not listed:
        (out / CONVERSION.report).write_text(older(CONVERSION))
    (out / "README.md").write_text("# My notes on las and spikingjelly\n")
    with pytest.raises(OutputError, match=r"did not write \(README.md\): move it away"):
        check_output(out, overwrite=True)
    model_card("gpt2", "GPT2LMHeadModel", LASConfig(), "0.1.0", "").save(out / "README.md")
    check_output(out, overwrite=True)


def test_a_file_that_comes_meanwhile(tmp_path: Path) -> None:
    out = written(tmp_path / "out", EVALUATION)

    def run() -> None:
        with whole_folder(out, overwrite=True, output=EVALUATION) as new:
            (new / EVALUATION.report).write_text("{}")
            (out / "thesis.tex").write_text("precious")

    with pytest.raises(OutputError, match=r"thesis\.tex"):
        run()
    assert contents(tmp_path) == {"out", f"out/{EVALUATION.report}", "out/thesis.tex"}


class TestInputs:
    """A run must not replace what it reads, whatever leads there."""

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        return written(tmp_path / "out", CONVERSION, "config.json", "model.safetensors")

    def refused(self, out: Path, given: Path) -> None:
        with pytest.raises(OutputError, match="which would be replaced: give another output"):
            check_output(out, overwrite=True, inputs=[given])

    def test_itself(self, out: Path) -> None:
        self.refused(out, out)
        self.refused(out, out / "config.json")
        self.refused(out, out / ".." / "out")

    def test_relative(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(out.parent)
        self.refused(Path("out"), out)
        self.refused(out, Path("out/../out/config.json"))

    def test_links(self, out: Path, tmp_path: Path) -> None:
        (tmp_path / "name").symlink_to(out)
        self.refused(tmp_path / "name", out)
        self.refused(out, tmp_path / "name" / "config.json")
        model = tmp_path / "model"
        (model / "deep").mkdir(parents=True)
        (model / "deep" / "model.safetensors").symlink_to(out / "model.safetensors")
        self.refused(out, model)

    def test_others(self, out: Path, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        os.link(out / "model.safetensors", tmp_path / "model" / "model.safetensors")  # which outlives the other name
        check_output(out, overwrite=True, inputs=[tmp_path / "model", Path("a/name-on-the-hub")])

    def test_where_the_command_runs(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(out)
        with pytest.raises(OutputError, match="this command runs in it"):
            check_output(out, overwrite=True)


def test_a_linked_output(tmp_path: Path) -> None:
    """What the link leads to is replaced, and the link stays."""
    written(tmp_path / "disk" / "out", EVALUATION, "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    with whole_folder(tmp_path / "out", overwrite=True, output=EVALUATION) as new:
        (new / "new").write_text("")
    assert (tmp_path / "out").is_symlink()
    assert contents(tmp_path) == {"disk", "disk/out", "disk/out/new", "out"}


def test_killed_between_two_renames(tmp_path: Path) -> None:
    """The former output is back in its place before anything else happens."""
    stage = tmp_path / ".out.partial-12345678"
    written(stage / "old", EVALUATION)
    (stage / "new").mkdir()
    (stage / LOCK).write_text("")
    with pytest.raises(OutputError, match="exists: give another folder, or --overwrite"):
        check_output(tmp_path / "out", overwrite=False, output=EVALUATION)
    assert contents(tmp_path) == {"out", f"out/{EVALUATION.report}"}


def test_folders_above_go_too(tmp_path: Path) -> None:
    def run() -> None:
        with whole_folder(tmp_path / "a" / "b" / "out", overwrite=False):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert contents(tmp_path) == set()


class TestWholeFile:
    MARK = "written by a test"

    def test_replaces_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / "report.md"
        for text in ("first", "second"):
            with whole_file(path, self.MARK) as file:
                file.write_text(f"{self.MARK}, {text}")
        assert path.read_text() == f"{self.MARK}, second"
        assert contents(tmp_path) == {"report.md"}

    @pytest.mark.parametrize("content", [b"precious", b"\xff\xfe", b"a" * 5000 + MARK.encode()])
    def test_leaves_others_alone(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "thesis.md"
        path.write_bytes(content)
        with pytest.raises(OutputError, match="exists, and was not written by a test: give another file"):
            check_file(path, self.MARK)
        assert path.read_bytes() == content

    def test_refused(self, tmp_path: Path) -> None:
        for path, says in ((tmp_path, "is a folder: give a file"), (tmp_path / "a" / "b", "cannot write .*No such")):
            with pytest.raises(OutputError, match=says):
                check_file(path, self.MARK)
        if Path("/dev/null").exists():
            with pytest.raises(OutputError, match="exists, and was not"):
                check_file(Path("/dev/null"), self.MARK)
