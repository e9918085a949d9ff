"""The entries of transformers' auto mappings: which model types there are, and the class that each mapping takes."""

from collections.abc import Collection
from dataclasses import dataclass

from transformers.models.auto import modeling_auto

from every_type.much_used import MUCH_USED

MAPPINGS = {
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "seq2seq-lm": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "image-text": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "speech-seq2seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "ctc": "MODEL_FOR_CTC_MAPPING_NAMES",
}


@dataclass(frozen=True)
class Entry:
    """A model type in a mapping.

    Args:
        mapping: a key of `MAPPINGS`.
        model_type: as in config.json.
        architecture: name of the class in transformers.
    """

    mapping: str
    model_type: str
    architecture: str


def entries_of(mappings: Collection[str], types: Collection[str] = ()) -> list[Entry]:
    """The entries of some mappings, in the order of transformers.

    Args:
        mappings: keys of `MAPPINGS`.
        types: the model types that are asked for; all if empty.
    """
    found = []
    for mapping in mappings:
        for model_type, classes in getattr(modeling_auto, MAPPINGS[mapping]).items():
            if not types or model_type in types:
                found.append(Entry(mapping, model_type, classes if isinstance(classes, str) else classes[0]))
    return found


def much_used_entries() -> list[Entry]:
    """The entries of `MUCH_USED`."""
    return [entry for mapping, types in MUCH_USED.items() for entry in entries_of([mapping], types.split())]
