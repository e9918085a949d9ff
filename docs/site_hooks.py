"""What the site takes from outside of docs/: pages, links and the packages.

README, CONTRIBUTING and CHANGELOG become pages. Files link to each other as they lie in the repository, so that their
links work there too.
"""

import re
import shutil
import tempfile
from configparser import ConfigParser
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FUNCTIONS = ("convert.py", "optimize.py")  # of which the package has a function of that name
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")

_packages = tempfile.TemporaryDirectory(prefix="las_sj_docs_")


@event_priority(100)  # before mkdocstrings reads it
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the packages where Python finds them once installed: setup.cfg maps folders to names."""
    setup = ConfigParser()
    setup.read(_root(config) / "setup.cfg")
    folders = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    for name, folder in folders.items():
        package = Path(_packages.name, *name.split("."))
        shutil.rmtree(package, ignore_errors=True)  # of an earlier build of this process
        package.mkdir(parents=True)
        for path in (_root(config) / folder).iterdir():
            if folder != "las_sj" or path.name not in FUNCTIONS:
                (package / path.name).symlink_to(path)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_packages.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = (_root(config) / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between files of the repository be links between pages, or into the repository."""
    own = page.file.src_uri
    lies_at = next((source for source, name in PAGES.items() if name == own), f"docs/{own}")

    def target(link: re.Match[str]) -> str:
        path = normpath(PurePosixPath(lies_at).parent / link[1])
        if not (_root(config) / path).exists():
            return link[1]  # of which the build then complains
        if path in PAGES or path.startswith("docs/"):
            return relpath(PAGES.get(path, path.removeprefix("docs/")), str(PurePosixPath(own).parent))
        return f"{config.repo_url}/blob/main/{path}"

    return _LINK.sub(target, markdown)


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent
