"""What the heads of transformers' models do, as far as the names of their classes tell."""

from torch import nn


def classifies_sequences(model: nn.Module) -> bool:
    """Whether a model has a head that classifies whole sequences."""
    return type(model).__name__.endswith("ForSequenceClassification")


def chooses_answers(model: nn.Module) -> bool:
    """Whether a model has a multiple-choice head, whose inputs are [B, choices, S]."""
    return type(model).__name__.endswith("ForMultipleChoice")


def classifies_inputs(model: nn.Module) -> bool:
    """Whether a model has a head that classifies images or sounds as a whole."""
    name = type(model).__name__
    return "ForImageClassification" in name or name.endswith("ForAudioClassification")


def transcribes_frames(model: nn.Module) -> bool:
    """Whether a model has a head that predicts a token for each frame of speech (CTC)."""
    return type(model).__name__.endswith("ForCTC")
