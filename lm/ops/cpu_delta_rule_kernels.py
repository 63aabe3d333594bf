"""The loops of lm.ops.cpu_delta_rule: the gated delta rule forward and backward, many sequences in the lanes of vector
registers."""

from typing import Any, no_type_check

import numpy as np
from numba import njit

from lm.ops.gated_delta_rule import EPS

LANES = 64  # sequences and heads that go together; a constant, so that the innermost loops become vector instructions
SPAN = 8  # tokens between two kept states
# the type checker of the tests would wrap what numba is to compile, hence no_type_check beside each
compiled = njit(fastmath={"contract", "reassoc", "nsz"}, nogil=True, cache=True, error_model="numpy")


@compiled
@no_type_check
def _read(source: Any, rows: Any, t: int, into: Any) -> None:
    """Token t of the rows (b, h) of source (B, T, H, d), into (d, LANES); lanes without a row stay as they are."""
    for lane in range(len(rows)):
        line = source[rows[lane, 0], t, rows[lane, 1]]
        for i in range(len(into)):
            into[i, lane] = line[i]


@compiled
@no_type_check
def _write(lanes: Any, rows: Any, t: int, into: Any) -> None:
    for lane in range(len(rows)):
        line = into[rows[lane, 0], t, rows[lane, 1]]
        for i in range(len(lanes)):
            line[i] = lanes[i, lane]


@compiled
@no_type_check
def _shorten(x: Any, scale: Any) -> None:
    """Every lane's vector of x (d, LANES) at unit length, and what it was multiplied by."""
    scale[:] = EPS
    for i in range(len(x)):
        for r in range(LANES):
            scale[r] += x[i, r] * x[i, r]
    for r in range(LANES):
        scale[r] = 1 / np.sqrt(scale[r])
    for i in range(len(x)):
        for r in range(LANES):
            x[i, r] *= scale[r]


@compiled
@no_type_check
def _lengthen(unit: Any, scale: Any, grad: Any, along: Any) -> None:
    """The gradient with respect to what `_shorten` was given, in place of that of its result."""
    along[:] = 0
    for i in range(len(unit)):
        for r in range(LANES):
            along[r] += unit[i, r] * grad[i, r]
    for i in range(len(unit)):
        for r in range(LANES):
            grad[i, r] = scale[r] * (grad[i, r] - along[r] * unit[i, r])


@compiled
@no_type_check
def _correct(memory: Any, k: Any, v: Any, decay: Any, missed: Any) -> None:
    """How far the values are from what the memory (K, V, LANES) holds for their keys, (V, LANES)."""
    missed[:] = 0
    for i in range(memory.shape[0]):
        for j in range(memory.shape[1]):
            for r in range(LANES):
                missed[j, r] += k[i, r] * memory[i, j, r]
    for j in range(memory.shape[1]):
        for r in range(LANES):
            missed[j, r] = v[j, r] - decay[r] * missed[j, r]


@compiled
@no_type_check
def _advance(memory: Any, k: Any, decay: Any, u: Any, after: Any) -> None:
    """The memory after a token that wrote u for its key; `after` may be `memory` itself."""
    for i in range(memory.shape[0]):
        for j in range(memory.shape[1]):
            for r in range(LANES):
                after[i, j, r] = decay[r] * memory[i, j, r] + k[i, r] * u[j, r]


@compiled
@no_type_check
def _ask(memory: Any, q: Any, answer: Any) -> None:
    answer[:] = 0
    for i in range(memory.shape[0]):
        for j in range(memory.shape[1]):
            for r in range(LANES):
                answer[j, r] += q[i, r] * memory[i, j, r]


@compiled
@no_type_check
def _asked(after: Any, grad: Any, q: Any, k: Any, asked: Any, dq: Any, du: Any) -> None:
    """Back through `_ask`: adds to `grad`, that of the memory after the token; du (V, LANES) is what of it k meets."""
    dq[:], du[:] = 0, 0
    for i in range(grad.shape[0]):
        for j in range(grad.shape[1]):
            for r in range(LANES):
                dq[i, r] += after[i, j, r] * asked[j, r]
                grad[i, j, r] += q[i, r] * asked[j, r]
                du[j, r] += grad[i, j, r] * k[i, r]


@compiled
@no_type_check
def _advanced(before: Any, grad: Any, k: Any, decay: Any, u: Any, dv: Any, dk: Any, ddecay: Any) -> None:
    """Back through `_advance` and `_correct`: `grad` becomes that of the memory before the token."""
    dk[:], ddecay[:] = 0, 0
    for i in range(grad.shape[0]):
        for j in range(grad.shape[1]):
            for r in range(LANES):
                rest = grad[i, j, r] - k[i, r] * dv[j, r]
                dk[i, r] += grad[i, j, r] * u[j, r] - decay[r] * before[i, j, r] * dv[j, r]
                ddecay[r] += rest * before[i, j, r]
                grad[i, j, r] = decay[r] * rest


@compiled
@no_type_check
def _groups(batch: int, heads: int) -> Any:
    """The (b, h) of all rows, and how many groups of LANES they fill."""
    rows = np.empty((batch * heads, 2), np.int64)
    for row in range(len(rows)):
        rows[row] = row // heads, row % heads
    return rows, (len(rows) + LANES - 1) // LANES


@compiled
@no_type_check
def _memories(source: Any, rows: Any, into: Any) -> None:
    for lane in range(len(rows)):
        into[:, :, lane] = source[rows[lane, 0], rows[lane, 1]]


@compiled
@no_type_check
def forward(q: Any, k: Any, v: Any, decay: Any, rate: Any, initial: Any, out: Any, final: Any, marks: Any) -> None:
    (batch, length, heads, key), value = q.shape, v.shape[3]
    memory = np.zeros((key, value, LANES), np.float32)
    key_now, value_now = np.zeros((2, key, LANES), np.float32), np.zeros((3, value, LANES), np.float32)
    gates, scale = np.zeros((2, 1, LANES), np.float32), np.zeros(LANES, np.float32)
    every, groups = _groups(batch, heads)
    for group in range(groups):
        rows = every[group * LANES : (group + 1) * LANES]
        _memories(initial, rows, memory)
        for t in range(length):
            if marks.shape[1] and t % SPAN == 0:
                marks[group, t // SPAN] = memory
            _read(q, rows, t, key_now[0])
            _read(k, rows, t, key_now[1])
            _read(v, rows, t, value_now[0])
            _read(decay, rows, t, gates[0])
            _read(rate, rows, t, gates[1])
            _shorten(key_now[0], scale)
            _shorten(key_now[1], scale)
            _correct(memory, key_now[1], value_now[0], gates[0, 0], value_now[1])
            value_now[1] *= gates[1]
            _advance(memory, key_now[1], gates[0, 0], value_now[1], memory)
            _ask(memory, key_now[0], value_now[2])
            _write(value_now[2], rows, t, out)
        for lane in range(len(rows)):
            final[rows[lane, 0], rows[lane, 1]] = memory[:, :, lane]


@compiled
@no_type_check
def backward(
    q: Any, k: Any, v: Any, decay: Any, rate: Any, marks: Any, dout: Any, dfinal: Any,
    dq: Any, dk: Any, dv: Any, ddecay: Any, drate: Any, dinitial: Any,
) -> None:  # fmt: skip
    (batch, length, heads, key), value = q.shape, v.shape[3]
    states = np.zeros((SPAN + 1, key, value, LANES), np.float32)
    keys, missed = np.zeros((SPAN, key, LANES), np.float32), np.zeros((SPAN, value, LANES), np.float32)
    gates, scales = np.zeros((SPAN, 2, 1, LANES), np.float32), np.zeros((SPAN + 1, LANES), np.float32)
    grad, dkey = np.zeros((key, value, LANES), np.float32), np.zeros((3, key, LANES), np.float32)
    now, dgates, along = np.zeros((3, value, LANES), np.float32), np.zeros((2, 1, LANES), np.float32), scales[0].copy()
    every, groups = _groups(batch, heads)
    for group in range(groups):
        rows = every[group * LANES : (group + 1) * LANES]
        _memories(dfinal, rows, grad)
        for first in range((length - 1) // SPAN * SPAN, -1, -SPAN):
            states[0] = marks[group, first // SPAN]
            many = min(SPAN, length - first)
            for s in range(many):
                _read(k, rows, first + s, keys[s])
                _read(v, rows, first + s, now[0])
                _read(decay, rows, first + s, gates[s, 0])
                _read(rate, rows, first + s, gates[s, 1])
                _shorten(keys[s], scales[s])
                _correct(states[s], keys[s], now[0], gates[s, 0, 0], missed[s])
                now[1] = missed[s] * gates[s, 1]
                _advance(states[s], keys[s], gates[s, 0, 0], now[1], states[s + 1])
            for s in range(many - 1, -1, -1):
                _read(q, rows, first + s, dkey[0])
                _read(dout, rows, first + s, now[0])
                _shorten(dkey[0], scales[SPAN])
                _asked(states[s + 1], grad, dkey[0], keys[s], now[0], dkey[1], now[2])
                dgates[1] = 0
                for j in range(value):
                    dgates[1, 0] += now[2, j] * missed[s, j]
                now[1] = missed[s] * gates[s, 1]
                now[2] *= gates[s, 1]
                _advanced(states[s], grad, keys[s], gates[s, 0, 0], now[1], now[2], dkey[2], dgates[0, 0])
                _lengthen(dkey[0], scales[SPAN], dkey[1], along)
                _lengthen(keys[s], scales[s], dkey[2], along)
                _write(dkey[1], rows, first + s, dq)
                _write(dkey[2], rows, first + s, dk)
                _write(now[2], rows, first + s, dv)
                _write(dgates[0], rows, first + s, ddecay)
                _write(dgates[1], rows, first + s, drate)
        for lane in range(len(rows)):
            dinitial[rows[lane, 0], rows[lane, 1]] = grad[:, :, lane]
