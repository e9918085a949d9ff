"""Code that comes with a model runs where it is asked for, and never otherwise."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import assert_one_line, contents, in_this_process
from tiny_media import save_tokenizer

from las_sj.commands import convert, inspect, report

CONFIGURATION = """
from pathlib import Path

from transformers import PretrainedConfig

Path("ran").touch()


class ToyConfig(PretrainedConfig):
    model_type = "toy_of_a_test"

    def __init__(self, vocab_size=1, hidden_size=16, **others):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**others)
"""
MODELLING = """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_toy import ToyConfig


class ToyModel(PreTrainedModel):
    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        return BaseModelOutput(last_hidden_state=torch.tanh(self.mix(self.embed(input_ids))))
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of a type of its own, in a folder with its code."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "toy"
    words = len(save_tokenizer(folder))
    (folder / "configuration_toy.py").write_text(CONFIGURATION)
    (folder / "modeling_toy.py").write_text(MODELLING)
    auto_map = {"AutoConfig": "configuration_toy.ToyConfig", "AutoModel": "modeling_toy.ToyModel"}
    config = {"model_type": "toy_of_a_test", "architectures": ["ToyModel"], "vocab_size": words, "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    weights = {"embed.weight": torch.randn(words, 16), "mix.weight": torch.randn(16, 16), "mix.bias": torch.randn(16)}
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (tmp_path / "text.txt").write_text("All: Speak, speak.\n" * 8)
    return folder


def test_code_of_a_model(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(toy.parent)
    given = ("--calibration", "text.txt", "--output", "out")
    with in_this_process(convert.main, capfd) as call:
        assert_one_line(call("toy", *given), "never run unasked: give .* or --trust-remote-code where you trust")
        assert contents(toy.parent) == before
        finished = call("toy", *given, "--trust-remote-code")
    assert finished.code == 0, finished.err
    assert Path("ran").exists()
    assert json.loads(Path("out/las_report.json").read_text())["quality"]["relative_error"] < 1e-3
    for main, options in ((report.main, ("--format", "md", "--no-equal-loss")), (inspect.main, ())):
        Path("ran").unlink(missing_ok=True)
        with in_this_process(main, capfd) as call:
            assert_one_line(call("out", *options), "out needs Python code of its own .* never run unasked")
            assert not Path("ran").exists()
            finished = call("out", *options, "--trust-remote-code")
        assert finished.code == 0, finished.err
