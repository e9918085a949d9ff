"""What lies around the code holds together: commands of the README, links, citation, workflow, site."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import las_sj

ROOT = Path(__file__).parents[1]
README, CI = ROOT / "README.md", ROOT / ".ci" / "run"
PACKAGES = {"las_sj": las_sj, "neurons": las_sj.neurons, "models": las_sj.models, "analysis": las_sj.analysis}


def text_of(*names: str) -> str:
    return ROOT.joinpath(*names).read_text(encoding="utf-8")


def loaded(*names: str) -> dict[str, object]:
    content = yaml.safe_load(text_of(*names))
    assert isinstance(content, dict)
    return content


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme, run = README.read_text(encoding="utf-8"), CI.read_text(encoding="utf-8")
    assert "```\npip install -e . && las-sj convert --output out\n```" in readme
    assert "```\nscripts/test\n```" in readme
    assert re.search(r"^pip install -q -e \.( #.*)?$", run, re.MULTILINE)
    assert "las-sj convert --output out" in run
    assert re.search(r"^scripts/test( #.*)?$", run, re.MULTILINE)
    for check in ("ruff check .", "ruff format --check .", "mypy", "mkdocs build --strict"):
        assert check in run


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
def test_scripts_can_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0


def test_workflow_runs_ci() -> None:
    assert "- run: .ci/run" in text_of(".github", "workflows", "ci.yml")
    assert loaded(".github", "workflows", "ci.yml")["jobs"]


def test_hooks_fetch_nothing() -> None:
    repositories = loaded(".pre-commit-config.yaml")["repos"]
    assert isinstance(repositories, list)
    assert [repository["repo"] for repository in repositories] == ["local"]


def test_citation() -> None:
    citation = loaded("CITATION.cff")
    assert citation["version"] == las_sj.__version__
    for paper in ("arXiv:2505.09659", "arXiv:2502.04405"):
        assert paper in text_of("CITATION.cff")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(os.listdir(ROOT / "docs"))])
def test_links_lead_to_files(name: str) -> None:
    page = ROOT / name if (ROOT / name).is_file() else ROOT / "docs" / name
    if page.suffix == ".md":
        links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize("name", list(PACKAGES))
def test_site_has_the_public_names(name: str, site: Path) -> None:
    page = (site / "api" / name / "index.html").read_text(encoding="utf-8")
    package = PACKAGES[name]
    expected = {f"{package.__name__}.{public}" for public in package.__all__ if callable(getattr(package, public))}
    assert expected
    assert expected <= set(re.findall(r'id="([\w.]+)"', page))


def test_site_has_the_pages_of_the_repository(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "las-sj convert --output out" in home
    assert 'href="families/"' in home
    assert 'src="pictures/raster.png"' in home
    assert 'href="contributing/"' in home
    assert "Unreleased" in (site / "changelog" / "index.html").read_text(encoding="utf-8")
    assert 'href="../add_to_it/#a-neuron"' in (site / "contributing" / "index.html").read_text(encoding="utf-8")


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|img|link)[^>]*>", page.read_text(encoding="utf-8"))
        assert tags
        assert [tag for tag in tags if re.search(r"(src|stylesheet)[^>]*https?://", tag)] == []


def test_site_names_no_place(site: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    assert pages
    assert not any(str(ROOT) in page for page in pages)


def test_broken_link_fails_the_build(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    for name in ("mkdocs.yml", "setup.cfg", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "las_sj", "neurons", "models", "analysis", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with (tmp_path / "CHANGELOG.md").open("a", encoding="utf-8") as changelog:
        changelog.write("\nSee [nothing](docs/nothing.md).\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True)
    assert done.returncode != 0
    assert re.findall("^WARNING.*", done.stderr.decode(), re.MULTILINE)[1:] == []
    assert "docs/nothing.md" in done.stderr.decode()


def test_tests_that_documents_name_exist() -> None:
    """The table of what may be put around a model is one of tests."""
    text = (ROOT / "docs" / "around_a_model.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 20
    for row in rows:
        (named,) = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert f"def {named[1]}(" in (ROOT / named[0]).read_text(encoding="utf-8"), row


def test_no_placeholder_is_left() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    left = re.compile(r"\b(?:TODO|TBD|FIXME|XXX|[A-Z]+_TABLE|[A-Z]+_FIGURE)\b")
    assert [str(page) for page in pages if left.search(page.read_text(encoding="utf-8"))] == []
