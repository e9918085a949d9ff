"""Recurrent layers of torch, converted: both executions against the ANN, and the audit."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.analysis import audit

INPUTS, STATES, CLASSES = 6, 8, 4


class OfTokens(nn.Module):
    """A recurrent layer, and a layer on all of its outputs."""

    def __init__(self, core: nn.Module, width: int = STATES, batch_first: bool = True) -> None:
        super().__init__()
        self.core, self.head, self.batch_first = core, nn.Linear(width, CLASSES), batch_first

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.core(x if self.batch_first else x.transpose(0, 1))[0]
        return self.head(outputs if self.batch_first else outputs.transpose(0, 1))


class OfTheLastState(nn.Module):
    """A recurrent layer, and a layer on what it ends with."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core, self.head = core, nn.Linear(STATES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.core(x)
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


class OfACell(nn.Module):
    """A cell in a loop over tokens."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(STATES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for token in range(x.shape[1]):
            state = self.cell(x[:, token], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: OfTokens(nn.LSTM(INPUTS, STATES, batch_first=True)),
    "LSTM, tokens first": lambda: OfTokens(nn.LSTM(INPUTS, STATES), batch_first=False),
    "LSTM, two layers, both ways": lambda: OfTokens(
        nn.LSTM(INPUTS, STATES, 2, batch_first=True, bidirectional=True), 2 * STATES
    ),
    "LSTM, projected, no biases": lambda: OfTokens(
        nn.LSTM(INPUTS, 12, 2, bias=False, batch_first=True, proj_size=STATES)
    ),
    "LSTM, last state": lambda: OfTheLastState(nn.LSTM(INPUTS, STATES, 2, batch_first=True)),
    "GRU": lambda: OfTokens(nn.GRU(INPUTS, STATES, 2, batch_first=True)),
    "GRU, last state": lambda: OfTheLastState(nn.GRU(INPUTS, STATES, 2, batch_first=True)),
    "RNN": lambda: OfTokens(nn.RNN(INPUTS, STATES, batch_first=True)),
    "RNN of ReLU, both ways": lambda: OfTokens(
        nn.RNN(INPUTS, STATES, nonlinearity="relu", batch_first=True, bidirectional=True), 2 * STATES
    ),
    "LSTM cell": lambda: OfACell(nn.LSTMCell(INPUTS, STATES)),
    "GRU cell": lambda: OfACell(nn.GRUCell(INPUTS, STATES)),
    "RNN cell": lambda: OfACell(nn.RNNCell(INPUTS, STATES)),
}


def batch(rows: int, tokens: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(rows, tokens, INPUTS, generator=generator).clamp(-2.5, 2.5)}


def converted(ann: nn.Module) -> nn.Module:
    """Calibrated on short sequences: an audit follows each of their time steps."""
    return las_sj.convert(copy.deepcopy(ann), calibration=[batch(8, 3, seed) for seed in range(6)])


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@torch.no_grad()
def test_both_executions_are_the_ann(name: str) -> None:
    torch.manual_seed(0)
    ann = MODELS[name]().eval()
    snn = converted(ann)
    for rows, tokens in ((2, 3), (1, 7), (3, 1)):  # as calibrated, longer, one token
        given = batch(rows, tokens, seed=9)
        expected = ann(**given)
        for execution in ("temporal", "accumulated"):
            las_sj.set_execution(snn, execution)
            output = snn(**given)
            assert output.shape == expected.shape
            assert float((output - expected).norm()) < 1e-4 * float(expected.norm())
    las_sj.set_execution(snn, "temporal")
    assert audit(snn, batch(2, 3, seed=9)).fully_spike_driven


class Packed(nn.Module):
    """Sequences of different length, packed."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), x.shape[1])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        output: Tensor = nn.utils.rnn.pad_packed_sequence(self.core(packed)[0], batch_first=True)[0]
        return output


@pytest.mark.parametrize("core", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_are_refused(core: type[nn.Module]) -> None:
    ann = Packed(core(INPUTS, STATES, batch_first=True))
    before = {name: value.clone() for name, value in ann.state_dict().items()}
    with pytest.raises(las_sj.UnsupportedModelError, match="no spiking form of _pack_padded_sequence"):
        converted(ann)
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())


@pytest.mark.parametrize("batch_first", [True, False])
@torch.no_grad()
def test_dropout_between_layers_has_one_mask_a_window(batch_first: bool) -> None:
    torch.manual_seed(0)
    core = nn.LSTM(INPUTS, STATES, 2, batch_first=batch_first, dropout=0.5)
    snn = converted(OfTokens(core, batch_first=batch_first).eval()).train()
    outputs = []
    for execution in ("temporal", "accumulated"):
        las_sj.set_execution(snn, execution)
        torch.manual_seed(1)
        outputs.append(snn(**batch(2, 16, seed=9)))  # as many tokens as time steps
    assert float((outputs[0] - outputs[1]).norm()) < 1e-3 * float(outputs[1].norm())


def test_gradients_are_those_of_the_ann() -> None:
    torch.manual_seed(0)
    ann = MODELS["LSTM"]().eval()
    snn = converted(ann)
    las_sj.set_execution(snn, "accumulated")
    for model in (ann, snn):
        model(**batch(2, 7, seed=9)).square().sum().backward()
    found = {name: p.grad for name, p in snn.named_parameters() if p.grad is not None and "spiking" not in name}
    for name, parameter in ann.named_parameters():
        assert parameter.grad is not None
        assert float((found[name] - parameter.grad).norm()) < 0.01 * float(parameter.grad.norm())
