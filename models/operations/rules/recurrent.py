"""Recurrent layers of torch (nn.LSTM, nn.GRU, nn.RNN and their cells), written in functions that have rules.

One population of each gate serves all tokens, layers and directions. Packed sequences have no rule.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from las_sj.models.operations.registry import composite

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, Sequence[Tensor | None]], State]


def _with_biases(weights: Sequence[Tensor], has_biases: bool) -> Sequence[Tensor | None]:
    """Weights and biases of a layer, None for those that it lacks, then what projects the state, if anything."""
    return weights if has_biases else (*weights[:2], None, None, *weights[2:])


def _lstm_step(x: Tensor, state: State, weights: Sequence[Tensor | None]) -> State:
    """h and c after a token; σ of the gates for input, forgetting and output, tanh of what is written."""
    of_input, of_state, bias, state_bias, *projection = weights
    h, c = state
    gates = F.linear(x, of_input, bias) + F.linear(h, of_state, state_bias)  # type: ignore[arg-type]
    enters, stays, written, leaves = gates.chunk(4, -1)
    c = torch.sigmoid(stays) * c + torch.sigmoid(enters) * torch.tanh(written)
    h = torch.sigmoid(leaves) * torch.tanh(c)
    return (F.linear(h, projection[0]) if projection else h, c)  # type: ignore[arg-type]


def _gru_step(x: Tensor, state: State, weights: Sequence[Tensor | None]) -> State:
    """h after a token; σ of the gates for resetting and keeping, tanh of what is new."""
    of_input, of_state, bias, state_bias = weights
    (h,) = state
    reset, keeps, new = F.linear(x, of_input, bias).chunk(3, -1)  # type: ignore[arg-type]
    reset_before, keeps_before, new_before = F.linear(h, of_state, state_bias).chunk(3, -1)  # type: ignore[arg-type]
    new = torch.tanh(new + torch.sigmoid(reset + reset_before) * new_before)
    return (new + torch.sigmoid(keeps + keeps_before) * (h - new),)


def _plain_step(activation: Callable[[Tensor], Tensor]) -> Cell:
    """A cell that has no gates."""

    def step(x: Tensor, state: State, weights: Sequence[Tensor | None]) -> State:
        of_input, of_state, bias, state_bias = weights
        return (activation(F.linear(x, of_input, bias) + F.linear(state[0], of_state, state_bias)),)  # type: ignore[arg-type]

    return step


def _layers(step: Cell, input: Tensor, first: State, options: Sequence[Any]) -> tuple[Tensor, list[State]]:
    """All layers and directions of a recurrent layer.

    Args:
        step: of the cell.
        input: [B, S, C], or [S, B, C].
        first: states that it begins with, [layers · directions, B, C] each.
        options: weights, whether there are biases, layers, dropout, training, whether both directions, batch first.

    Returns:
        Outputs of the last layer, in the order of the input, and the last state of each layer and direction.
    """
    weights, has_biases, layers, dropout, training, both, batch_first = options
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    tokens = 1 if batch_first else 0
    last = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            own = _with_biases(weights[place * each : (place + 1) * each], has_biases)
            state = tuple(part[place] for part in first)
            seen = []
            order = range(input.shape[tokens])
            for token in reversed(order) if direction else order:
                state = step(input.select(tokens, token), state, own)
                seen.append(state[0])
            outputs.append(torch.stack(seen[::-1] if direction else seen, tokens))
            last.append(state)
        input = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if layer < layers - 1:
            rows_first = input if batch_first else input.transpose(0, 1)  # by which a window has one mask
            dropped = F.dropout(rows_first, dropout, training)
            input = dropped if batch_first else dropped.transpose(0, 1)
    return input, last


def _stacked(states: Sequence[State], part: int) -> Tensor:
    return torch.stack([state[part] for state in states])


@composite("lstm")
def lstm(input: Tensor, hx: Any, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """nn.LSTM: outputs, and the last h and c."""
    output, last = _layers(_lstm_step, input, tuple(hx), options)
    return output, _stacked(last, 0), _stacked(last, 1)


def _of_one_state(name: str, step: Cell) -> None:
    """Register a recurrent layer whose state is h alone: outputs, and the last h."""

    @composite(name)
    def run(input: Tensor, hx: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
        output, last = _layers(step, input, (hx,), options)
        return output, _stacked(last, 0)

    @composite(f"{name}_cell")
    def cell(
        input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
    ) -> Tensor:
        return step(input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]


_of_one_state("gru", _gru_step)
_of_one_state("rnn_tanh", _plain_step(torch.tanh))
_of_one_state("rnn_relu", _plain_step(torch.relu))


@composite("lstm_cell")
def lstm_cell(
    input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> State:
    """nn.LSTMCell: h and c."""
    return _lstm_step(input, tuple(hx), (w_ih, w_hh, b_ih, b_hh))
