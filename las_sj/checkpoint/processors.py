"""The processors of a model, or a line that says what is wrong with them."""

from pathlib import Path
from typing import Any

from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoProcessor

from las_sj.checkpoint.tokenizer import has_tokenizer, load_tokenizer
from las_sj.data.modalities import Modalities
from las_sj.data.processors import Processors
from las_sj.reasons import reason_of

FILES = ("preprocessor_config.json", "processor_config.json")


def load_processors(
    name: str | Path, takes: Modalities, trust: bool = False, gguf_file: str | None = None
) -> Processors:
    """The processors of what a model takes.

    Args:
        name: a hub name or a folder.
        takes: what the model takes.
        trust: whether code that comes with the model may run.
        gguf_file: file name within it, for GGUF checkpoints.

    Raises:
        OSError: one of them is not there, or cannot be read.
    """
    extra = {} if gguf_file is None else {"gguf_file": gguf_file}
    if takes.only_text:
        return Processors(tokenizer=load_tokenizer(name, trust, **extra))
    if takes.text:
        return Processors(pairs=_load(AutoProcessor, name, f"processor of {' and '.join(takes.names)}", trust))
    tokenizer = load_tokenizer(name, trust) if Path(name).is_dir() and has_tokenizer(Path(name)) else None
    if takes.images:
        return Processors(tokenizer, images=_load(AutoImageProcessor, name, "image processor", trust))
    return Processors(tokenizer, sound=_load(AutoFeatureExtractor, name, "feature extractor of sound", trust))


def _load(auto_class: Any, name: str | Path, what: str, trust: bool) -> Any:
    if Path(name).is_dir() and not any((Path(name) / file).exists() for file in FILES):
        raise OSError(f"no {what} in {name} ({FILES[0]}): save that of the original model there (save_pretrained)")
    try:
        processor = auto_class.from_pretrained(name, trust_remote_code=trust)
    except Exception as error:  # the readers of processors raise whatever they come upon
        raise OSError(
            f"the {what} of {name} cannot be loaded ({reason_of(error)}): save that of the original model there "
            "(save_pretrained)"
        ) from error
    if auto_class is AutoProcessor and not hasattr(processor, "tokenizer"):
        raise OSError(f"no {what} in {name}: save that of the original model there (save_pretrained)")
    return processor
