"""A model and a text to convert."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Call, in_this_process
from tiny_models import gpt2, save

from las_sj.commands.convert import main

TEXT = "All: Speak, speak.\n\nFirst Citizen: You are all resolved rather to die than to famish?\n" * 12


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    with in_this_process(main, capfd) as call_here:
        yield call_here


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with the default model's tokenizer."""
    return save(gpt2(vocab_size=512), tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"
