"""What `import las_sj` gives, in a process of its own each time, and the command that leads to the others."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from commands import ENVIRONMENT, Finished, in_this_process

import las_sj
import las_sj_cli
from las_sj.commands import inspect
from las_sj.commands.convert import main as convert_main

IMPORT_ALL = """
import importlib, pkgutil, sys
import las_sj
before = {name: getattr(las_sj, name) for name in las_sj.__all__}
for module in pkgutil.walk_packages(las_sj.__path__, "las_sj."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert not error.name.startswith("las_sj"), error  # an extra that is not installed
for name, value in before.items():
    assert getattr(las_sj, name) is value, name
import las_sj.convert
assert las_sj.convert is before["convert"]
assert "las_sj.commands.convert" in sys.modules
"""
LAZY = """
import runpy, sys
import las_sj
assert "matplotlib" not in sys.modules
assert {"analysis", "models", "neurons", "convert"} <= set(dir(las_sj))
assert las_sj.neurons.OATNode and las_sj.models.FAMILIES
assert "matplotlib" not in sys.modules
assert callable(las_sj.analysis.audit)
sys.argv[1:] = ["--version"]
runpy.run_module("las_sj", run_name="__main__", alter_sys=True)  # as python -m las_sj does
"""


def python(*arguments: str, folder: Path) -> Finished:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True)
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(("program", "out"), [(LAZY, f"las_sj {las_sj.__version__}\n"), (IMPORT_ALL, "")])
def test_names_after_import(program: str, out: str, tmp_path: Path) -> None:
    assert python("-W", "error", "-c", program, folder=tmp_path) == Finished(0, out, "")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'analyses'"):
        _ = las_sj.analyses  # type: ignore[attr-defined]


def test_default_model_where_it_was() -> None:
    from las_sj.loading import default_model

    assert (default_model() / "config.json").is_file()


def test_help_needs_no_torch(tmp_path: Path) -> None:
    program = "import sys, las_sj_cli; las_sj_cli.main(['--help']); sys.exit('torch' in sys.modules)"
    done = python("-c", program, folder=tmp_path)
    assert done.code == 0
    assert done.out.isascii()  # for every terminal


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_commands_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    las_sj_cli.main(arguments)
    out, err = capsys.readouterr()
    assert err == ""
    assert re.findall(r"^  (\w+) +\S", out, re.MULTILINE) == list(las_sj_cli.COMMANDS)


def test_every_command_has_its_line_and_its_door() -> None:
    package = Path(las_sj.__file__).parent
    files = (package / "commands").glob("*.py")
    commands = {path.stem for path in files if "\ndef main(" in path.read_text(encoding="utf-8")}
    assert commands == set(las_sj_cli.COMMANDS)
    assert all((package / f"{name}.py").is_file() for name in commands)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    las_sj_cli.main(["--version"])
    assert capsys.readouterr().out == f"las_sj {las_sj.__version__}\n"
    assert las_sj.__version__ == version("las_sj")


@pytest.mark.parametrize("name", ["transmogrify", "--output"])
def test_unknown_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        las_sj_cli.main([name, "convert"])
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert re.fullmatch(f"error: no (command|option) '{name}' .*--help.*\n", err)


def test_script_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="las-sj")
    assert script.load() is las_sj_cli.main


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--levels", "many"], 2), (["--window", "1"], 2), (["nowhere/at/all"], 1)]
)
def test_commands_fail_as_by_themselves(
    arguments: list[str],
    code: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*arguments, "--output", "out"]
    with in_this_process(las_sj_cli.main, capfd) as led, in_this_process(convert_main, capfd) as direct:
        failed = led("convert", *arguments)
        assert failed == direct(*arguments)
    assert (failed.code, failed.out, len(failed.visible)) == (code, "", 1)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("/usr/bin/las-sj", "las-sj inspect"),
        ("/site-packages/las_sj/__main__.py", "python -m las_sj inspect"),
        ("/site-packages/las_sj/inspect.py", "python -m las_sj.inspect"),
    ],
)
def test_help_names_what_was_typed(
    path: str, typed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [path])
    with pytest.raises(SystemExit):
        inspect.main(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {typed} ")
    assert ("python -m" in shown) == typed.startswith("python")
