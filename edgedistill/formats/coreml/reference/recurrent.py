"""Recurrent layers, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, operation

Floats = NDArray[Any]
Step = Callable[[Floats, tuple[Floats, ...]], tuple[Floats, ...]]

_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,  # Core ML takes 1 for both of its factors here.
}


def _activation(call: MilCall, name: str, default: str) -> Callable[[Floats], Floats]:
    return _ACTIVATIONS[call.scalar(name, default)]


def _bias(call: MilCall, name: str, size: int) -> Floats:
    return np.zeros(size, np.float32) if call.get(name) is None else call.real(name)


def _unrolled(x: Floats, state: tuple[Floats, ...], step: Step, backwards: bool) -> tuple[Floats, tuple[Floats, ...]]:
    """Hidden states of every step [s, b, H] in the order of the steps, and the last state. `state` is the first."""
    outputs = []
    for entry in x[::-1] if backwards else x:
        state = step(entry, state)
        outputs.append(state[0])
    return np.stack(outputs), state


def _output(sequence: Floats, last: Floats, call: MilCall) -> Floats:
    return sequence if call.scalar("output_sequence", False) else last[None]


@operation("rnn")
def rnn(call: MilCall) -> tuple[Floats, Floats]:
    w_x, w_h = call.real("weight_ih"), call.real("weight_hh")
    bias, activation = _bias(call, "bias", len(w_x)), _activation(call, "activation", "tanh")

    def step(x: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
        return (activation(x @ w_x.T + state[0] @ w_h.T + bias),)

    backwards = call.scalar("direction", "forward") == "reverse"
    sequence, (last,) = _unrolled(call.real("x"), (call.real("initial_h"),), step, backwards)
    return _output(sequence, last, call), last


@operation("gru")
def gru(call: MilCall) -> tuple[Floats, Floats]:
    """Gates in the order reset, output, update. The reset gate multiplies the state before the product with its weights, or
    what comes out of it with the bias, as torch does (`reset_after`, iOS 18)."""
    w_x, w_h = call.real("weight_ih"), call.real("weight_hh")
    (x_r, x_o, x_z), (h_r, h_o, h_z) = np.split(w_x, 3), np.split(w_h, 3)
    r_bias, o_bias, z_bias = np.split(_bias(call, "bias", len(w_x)), 3)
    r_input, o_input, z_input = np.split(_bias(call, "input_bias", len(w_x)), 3)
    after = call.scalar("reset_after", False)
    gate, activation = _activation(call, "recurrent_activation", "sigmoid"), _activation(call, "activation", "tanh")

    def step(x: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
        (h,) = state
        reset = gate(x @ x_r.T + h @ h_r.T + r_bias + r_input)
        update = gate(x @ x_z.T + h @ h_z.T + z_bias + z_input)
        hidden = reset * (h @ h_o.T + o_bias) if after else (reset * h) @ h_o.T + o_bias
        candidate = x @ x_o.T + o_input + hidden
        return ((1 - update) * activation(candidate) + update * h,)

    backwards = call.scalar("direction", "forward") == "reverse"
    sequence, (last,) = _unrolled(call.real("x"), (call.real("initial_h"),), step, backwards)
    return _output(sequence, last, call), last


def _lstm_step(call: MilCall, suffix: str) -> Step:
    """One step with the weights of a direction; gates in the order input, forget, output, cell."""
    w_x, w_h = call.real(f"weight_ih{suffix}"), call.real(f"weight_hh{suffix}")
    size = w_h.shape[1]
    bias = _bias(call, f"bias{suffix}", 4 * size)
    p_i, p_f, p_o = np.split(_bias(call, f"peephole{suffix}", 3 * size), 3)
    gate = _activation(call, "recurrent_activation", "sigmoid")
    cell_activation, activation = _activation(call, "cell_activation", "tanh"), _activation(call, "activation", "tanh")
    clip = call.scalar("clip", np.inf)

    def step(x: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
        h, c = state
        i, f, o, z = np.split(x @ w_x.T + h @ w_h.T + bias, 4, axis=-1)
        kept = gate(f + p_f * c) * c + gate(i + p_i * c) * cell_activation(z)
        kept = np.clip(kept, -clip, clip)
        return gate(o + p_o * kept) * activation(kept), kept

    return step


@operation("lstm")
def lstm(call: MilCall) -> tuple[Floats, Floats, Floats]:
    x, h, c = call.real("x"), call.real("initial_h"), call.real("initial_c")
    direction = call.scalar("direction", "forward")
    if direction != "bidirectional":
        sequence, (last, cell) = _unrolled(x, (h, c), _lstm_step(call, ""), direction == "reverse")
        return _output(sequence, last, call), last, cell
    (h_there, h_back), (c_there, c_back) = np.split(h, 2, axis=-1), np.split(c, 2, axis=-1)
    there, last_there = _unrolled(x, (h_there, c_there), _lstm_step(call, ""), False)
    back, last_back = _unrolled(x, (h_back, c_back), _lstm_step(call, "_back"), True)
    last, cell = (np.concatenate(pair, axis=-1) for pair in zip(last_there, last_back, strict=True))
    return _output(np.concatenate([there, back[::-1]], axis=-1), last, call), last, cell
