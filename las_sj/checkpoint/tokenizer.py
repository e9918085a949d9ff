"""The tokenizer of a model, or a line that says what is wrong with it."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from las_sj.reasons import reason_of

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load_tokenizer(name: str | Path, trust: bool = False, **extra: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Args:
        name: a hub name or a folder.
        trust: whether code that comes with the model may run.
        extra: for transformers, such as the file name of a GGUF checkpoint.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    if not extra and Path(name).is_dir() and not has_tokenizer(Path(name)):
        raise OSError(_none_in(name))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust, **extra)
    except Exception as error:  # the readers of tokenizers raise whatever they come upon
        raise OSError(
            f"the tokenizer of {name} cannot be loaded ({reason_of(error)}): save that of the original model there "
            "(save_pretrained)"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one where it finds none
        raise OSError(_none_in(name))
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / name).exists() for name in FILES)


def _none_in(name: str | Path) -> str:
    return f"no tokenizer in {name}: save that of the original model there (save_pretrained)"
