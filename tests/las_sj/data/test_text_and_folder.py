"""Batches from text, and output folders that appear whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tiny_models import bert, gpt2
from transformers import (
    AutoTokenizer,
    BertConfig,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    ViTConfig,
    XLNetConfig,
)

from las_sj.checkpoint.loading import default_model
from las_sj.data.output_folder import CONVERSION, check_output, whole_folder
from las_sj.data.text import (
    TextError,
    longest_sequence,
    padded_lines,
    read_text,
    split_held_out,
    text_batches,
    token_windows,
)
from las_sj.data.writing import OutputError

TEXT = "First Citizen: Before we proceed any further, hear me speak.\n\nAll: Speak, speak.\n" * 20


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(default_model())


@pytest.mark.parametrize("tokens", [2, 50, 64, 65, 66, 10_000])
def test_windows_are_the_text(tokenizer: PreTrainedTokenizerBase, tokens: int) -> None:
    batches = token_windows(tokenizer, TEXT, tokens, window=16, batch_size=3)
    assert all(batch["input_ids"].shape == (3, 16) for batch in batches[:-2])
    assert all(batch["input_ids"].shape[1] >= 2 for batch in batches)
    found = torch.cat([batch["input_ids"].flatten() for batch in batches])
    expected = torch.tensor(tokenizer(TEXT)["input_ids"][:tokens])
    left_out = len(expected) - len(found)  # a single token at the end predicts nothing
    assert left_out == (1 if len(expected) % 16 == 1 else 0)
    assert torch.equal(found, expected[: len(found)])


@pytest.mark.parametrize("text", ["", "a"])
def test_too_little_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    with pytest.raises(TextError, match="fewer than two tokens"):
        token_windows(tokenizer, text, 100, 16, 4)


def test_lines_are_padded(tokenizer: PreTrainedTokenizerBase) -> None:
    batches = padded_lines(tokenizer, TEXT, tokens=100, longest=28)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches[:-1]) < 100
    for batch in batches:
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert batch["input_ids"].shape[1] <= 28
        assert not bool(batch["attention_mask"].all())
    first = batches[0]["input_ids"][0][batches[0]["attention_mask"][0].bool()]
    assert first.tolist() == tokenizer(TEXT.splitlines()[0])["input_ids"][:28]


@pytest.mark.parametrize("text", ["", "\n \n\t\n"])
def test_no_lines(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    with pytest.raises(TextError, match="no line"):
        padded_lines(tokenizer, text, 100, 16)


def test_split() -> None:
    first, second = split_held_out(TEXT)
    assert first + second == TEXT
    assert first.endswith(" ")
    assert len(second) == pytest.approx(0.2 * len(TEXT), rel=0.05)
    assert split_held_out("nospaces") == ("", "nospaces")


OURS = json.dumps({"files": [CONVERSION.report]})


def test_read(tmp_path: Path) -> None:
    good, blank, binary = (tmp_path / name for name in ("good", "blank", "binary"))
    good.write_text("häh", encoding="utf-8")
    blank.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    assert read_text(good) == "häh"
    for path, message in ((blank, "is empty"), (binary, "cannot read"), (tmp_path, "cannot read")):
        with pytest.raises(TextError, match=message) as raised:
            read_text(path)
        assert str(path) in str(raised.value)
    with pytest.raises(TextError, match="cannot read text"):
        read_text(tmp_path / "missing")


class TestWholeFolder:
    def test_appears_at_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "out"
        with whole_folder(target, overwrite=False) as folder:
            (folder / "file").write_text("content")
            assert not target.exists()
            assert folder.parent.parent == target.parent  # one file system, so that renaming is one step
        assert (target / "file").read_text() == "content"
        assert [path.name for path in target.parent.iterdir()] == ["out"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_nothing_is_left(self, tmp_path: Path, error: type[BaseException], overwrite: bool) -> None:
        target = tmp_path / "out"
        if overwrite:
            target.mkdir()
            (target / CONVERSION.report).write_text(OURS)

        def write() -> None:
            with whole_folder(target, overwrite) as folder:
                (folder / "file").write_text("content")
                raise error

        with pytest.raises(error):
            write()
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
        assert left == (["out", f"out/{CONVERSION.report}"] if overwrite else [])

    def test_overwrite_replaces(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        target.mkdir()
        (target / CONVERSION.report).write_text(OURS)
        with whole_folder(target, overwrite=True) as folder:
            (folder / "new").write_text("new")
        assert [path.name for path in target.iterdir()] == ["new"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_old_folder_outlives_a_failed_rename(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "out"
        target.mkdir()
        (target / CONVERSION.report).write_text(OURS)
        rename = Path.rename

        def broken(path: Path, other: Path) -> Path:
            if other == target and path.name == "new":
                raise OSError(5, "Input/output error")
            return rename(path, other)

        def write() -> None:
            with whole_folder(target, overwrite=True) as folder:
                (folder / "new").write_text("new")

        monkeypatch.setattr(Path, "rename", broken)
        with pytest.raises(OutputError, match=r"out cannot be written \(Input/output error\): write elsewhere"):
            write()
        assert [path.name for path in target.iterdir()] == [CONVERSION.report]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (OSError(28, "No space left on device"), r"No space left on device\): make room, or write elsewhere"),
            (SafetensorError("I/O error: No space left on device (os error 28)"), r"left on device\): make room"),
            (
                PermissionError(13, "Permission denied", "tokenizer.json"),
                r"tokenizer.json: Permission .*\): write else",
            ),
            (OSError("Nothing to save"), r"\(Nothing to save\): write elsewhere"),
        ],
    )
    def test_reasons(self, error: Exception, says: str, tmp_path: Path) -> None:
        """Room is made where there is none, and nothing is said of it otherwise."""

        def write() -> None:
            with whole_folder(tmp_path / "out", overwrite=False):
                raise error

        with pytest.raises(OutputError, match=f"out cannot be written .*{says}"):
            write()

    def test_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("")
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="is a file"):
                check_output(file, overwrite)
        with pytest.raises(OutputError, match="exists: give another folder, or --overwrite"):
            check_output(tmp_path, overwrite=False)
        with pytest.raises(OutputError, match="not the output of a conversion"):
            check_output(tmp_path, overwrite=True)
        file.rename(tmp_path / CONVERSION.report)
        with pytest.raises(OutputError, match="is no report of one"):
            check_output(tmp_path, overwrite=True)
        (tmp_path / CONVERSION.report).write_text(OURS)
        check_output(tmp_path, overwrite=True)
        check_output(tmp_path / "new", overwrite=False)


class TestLongestSequence:
    @pytest.mark.parametrize(
        ("config", "longest"),
        [
            (BertConfig(max_position_embeddings=33), 33),
            (GPT2Config(n_positions=34), 34),  # the common name through its attribute map
            (LlavaConfig(text_config=LlamaConfig(max_position_embeddings=35)), 35),  # of the language model in it
            (BloomConfig(), None),
            (ViTConfig(), None),  # takes no tokens
            (XLNetConfig(), None),  # says −1
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_as_the_configuration_says(self, config: PretrainedConfig, longest: int | None) -> None:
        assert longest_sequence(config) == longest


class TestTextBatches:
    TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer.\n" * 12

    def test_windows_of_a_language_model(self) -> None:
        """Cut to what the model takes, and to the window where that is less."""
        tokenizer = AutoTokenizer.from_pretrained(default_model())
        for window, width in ((16, 16), (500, 64)):
            batches = text_batches(gpt2(vocab_size=512), tokenizer, self.TEXT, 256, window, 2)
            assert batches[0]["input_ids"].shape == (2, width)
            assert sum(batch["input_ids"].numel() for batch in batches) == 256

    def test_a_model_without_a_limit(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(default_model())
        model = BloomForCausalLM(BloomConfig(vocab_size=512, hidden_size=16, n_layer=1, n_head=2))
        (batch,) = text_batches(model, tokenizer, self.TEXT, 200, 200, 1)
        assert batch["input_ids"].shape == (1, 200)

    def test_lines_of_an_encoder(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(default_model())
        for window, width in ((12, 12), (500, len(tokenizer(self.TEXT.splitlines()[0])["input_ids"]))):
            batches = text_batches(bert(vocab_size=512), tokenizer, self.TEXT, 256, window, 2)
            assert batches[0]["input_ids"].shape == (8, width)
            assert set(batches[0]) >= {"input_ids", "attention_mask"}
