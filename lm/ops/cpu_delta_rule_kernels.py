"""numba kernels of lm.ops.cpu_delta_rule: forward and backward over LANES sequences and heads at a time."""

from typing import Any, no_type_check

import numpy as np

from lm.ops.chunked_delta_rule import EPS
from synth.compiled_code import njit

LANES = 64  # sequences and heads at a time; constant, so that the innermost loops are vectorised
CHECKPOINT_EVERY = 8  # tokens between states stored for the backward pass
# no_type_check: the tests' runtime type checker must not wrap functions that numba compiles
compiled = njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@compiled
@no_type_check
def _load(source: Any, rows: Any, t: int, into: Any) -> None:
    """Copy token t of the rows (b, h) of source (B, T, H, d) into (d, LANES); lanes without a row are unchanged."""
    for lane in range(len(rows)):
        line = source[rows[lane, 0], t, rows[lane, 1]]
        for i in range(len(into)):
            into[i, lane] = line[i]


@compiled
@no_type_check
def _store(lanes: Any, rows: Any, t: int, into: Any) -> None:
    for lane in range(len(rows)):
        line = into[rows[lane, 0], t, rows[lane, 1]]
        for i in range(len(lanes)):
            line[i] = lanes[i, lane]


@compiled
@no_type_check
def _normalize(x: Any, scale: Any) -> None:
    """Normalize every lane's vector of x (d, LANES) in place; scale (LANES,) gets the factors."""
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
def _normalize_backward(unit: Any, scale: Any, grad: Any, along: Any) -> None:
    """Replace `grad` of the normalized vectors by the gradient of the input of `_normalize`."""
    along[:] = 0
    for i in range(len(unit)):
        for r in range(LANES):
            along[r] += unit[i, r] * grad[i, r]
    for i in range(len(unit)):
        for r in range(LANES):
            grad[i, r] = scale[r] * (grad[i, r] - along[r] * unit[i, r])


@compiled
@no_type_check
def _prediction_error(state: Any, k: Any, v: Any, decay: Any, error: Any) -> None:
    """error (V, LANES) = v - decay * state^T k, for state (K, V, LANES)."""
    error[:] = 0
    for i in range(state.shape[0]):
        for j in range(state.shape[1]):
            for r in range(LANES):
                error[j, r] += k[i, r] * state[i, j, r]
    for j in range(state.shape[1]):
        for r in range(LANES):
            error[j, r] = v[j, r] - decay[r] * error[j, r]


@compiled
@no_type_check
def _update_state(state: Any, k: Any, decay: Any, u: Any, after: Any) -> None:
    """after = decay * state + k u^T; `after` may be `state` itself."""
    for i in range(state.shape[0]):
        for j in range(state.shape[1]):
            for r in range(LANES):
                after[i, j, r] = decay[r] * state[i, j, r] + k[i, r] * u[j, r]


@compiled
@no_type_check
def _query(state: Any, q: Any, out: Any) -> None:
    out[:] = 0
    for i in range(state.shape[0]):
        for j in range(state.shape[1]):
            for r in range(LANES):
                out[j, r] += q[i, r] * state[i, j, r]


@compiled
@no_type_check
def _query_backward(after: Any, grad: Any, q: Any, k: Any, dout: Any, dq: Any, du: Any) -> None:
    """Backward of `_query`: adds to `grad` of the state after the token; du (V, LANES) = grad^T k."""
    dq[:], du[:] = 0, 0
    for i in range(grad.shape[0]):
        for j in range(grad.shape[1]):
            for r in range(LANES):
                dq[i, r] += after[i, j, r] * dout[j, r]
                grad[i, j, r] += q[i, r] * dout[j, r]
                du[j, r] += grad[i, j, r] * k[i, r]


@compiled
@no_type_check
def _update_backward(before: Any, grad: Any, k: Any, decay: Any, u: Any, dv: Any, dk: Any, ddecay: Any) -> None:
    """Backward of `_update_state` and `_prediction_error`: `grad` becomes that of the state before the token."""
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
    """Rows (b, h), and the number of groups of LANES rows."""
    rows = np.empty((batch * heads, 2), np.int64)
    for row in range(len(rows)):
        rows[row] = row // heads, row % heads
    return rows, (len(rows) + LANES - 1) // LANES


@compiled
@no_type_check
def _load_states(source: Any, rows: Any, into: Any) -> None:
    for lane in range(len(rows)):
        into[:, :, lane] = source[rows[lane, 0], rows[lane, 1]]


@compiled
@no_type_check
def forward(
    q: Any, k: Any, v: Any, decay: Any, beta: Any, initial_state: Any, out: Any, final: Any, checkpoints: Any
) -> None:
    (batch, length, heads, key), value = q.shape, v.shape[3]
    state = np.zeros((key, value, LANES), np.float32)
    key_now, value_now = np.zeros((2, key, LANES), np.float32), np.zeros((3, value, LANES), np.float32)
    gates, scale = np.zeros((2, 1, LANES), np.float32), np.zeros(LANES, np.float32)
    all_rows, groups = _groups(batch, heads)
    for group in range(groups):
        rows = all_rows[group * LANES : (group + 1) * LANES]
        _load_states(initial_state, rows, state)
        for t in range(length):
            if checkpoints.shape[1] and t % CHECKPOINT_EVERY == 0:
                checkpoints[group, t // CHECKPOINT_EVERY] = state
            _load(q, rows, t, key_now[0])
            _load(k, rows, t, key_now[1])
            _load(v, rows, t, value_now[0])
            _load(decay, rows, t, gates[0])
            _load(beta, rows, t, gates[1])
            _normalize(key_now[0], scale)
            _normalize(key_now[1], scale)
            _prediction_error(state, key_now[1], value_now[0], gates[0, 0], value_now[1])
            value_now[1] *= gates[1]
            _update_state(state, key_now[1], gates[0, 0], value_now[1], state)
            _query(state, key_now[0], value_now[2])
            _store(value_now[2], rows, t, out)
        for lane in range(len(rows)):
            final[rows[lane, 0], rows[lane, 1]] = state[:, :, lane]


@compiled
@no_type_check
def backward(
    q: Any, k: Any, v: Any, decay: Any, beta: Any, checkpoints: Any, dout: Any, dfinal: Any,
    dq: Any, dk: Any, dv: Any, ddecay: Any, dbeta: Any, dinitial: Any,
) -> None:  # fmt: skip
    (batch, length, heads, key), value = q.shape, v.shape[3]
    states = np.zeros((CHECKPOINT_EVERY + 1, key, value, LANES), np.float32)
    keys = np.zeros((CHECKPOINT_EVERY, key, LANES), np.float32)
    error = np.zeros((CHECKPOINT_EVERY, value, LANES), np.float32)
    gates = np.zeros((CHECKPOINT_EVERY, 2, 1, LANES), np.float32)
    scales = np.zeros((CHECKPOINT_EVERY + 1, LANES), np.float32)
    grad, dkey = np.zeros((key, value, LANES), np.float32), np.zeros((3, key, LANES), np.float32)
    now, dgates, along = np.zeros((3, value, LANES), np.float32), np.zeros((2, 1, LANES), np.float32), scales[0].copy()
    all_rows, groups = _groups(batch, heads)
    for group in range(groups):
        rows = all_rows[group * LANES : (group + 1) * LANES]
        _load_states(dfinal, rows, grad)
        for first in range((length - 1) // CHECKPOINT_EVERY * CHECKPOINT_EVERY, -1, -CHECKPOINT_EVERY):
            states[0] = checkpoints[group, first // CHECKPOINT_EVERY]
            num_tokens = min(CHECKPOINT_EVERY, length - first)
            for s in range(num_tokens):
                _load(k, rows, first + s, keys[s])
                _load(v, rows, first + s, now[0])
                _load(decay, rows, first + s, gates[s, 0])
                _load(beta, rows, first + s, gates[s, 1])
                _normalize(keys[s], scales[s])
                _prediction_error(states[s], keys[s], now[0], gates[s, 0, 0], error[s])
                now[1] = error[s] * gates[s, 1]
                _update_state(states[s], keys[s], gates[s, 0, 0], now[1], states[s + 1])
            for s in range(num_tokens - 1, -1, -1):
                _load(q, rows, first + s, dkey[0])
                _load(dout, rows, first + s, now[0])
                _normalize(dkey[0], scales[CHECKPOINT_EVERY])
                _query_backward(states[s + 1], grad, dkey[0], keys[s], now[0], dkey[1], now[2])
                dgates[1] = 0
                for j in range(value):
                    dgates[1, 0] += now[2, j] * error[s, j]
                now[1] = error[s] * gates[s, 1]
                now[2] *= gates[s, 1]
                _update_backward(states[s], grad, keys[s], gates[s, 0, 0], now[1], now[2], dkey[2], dgates[0, 0])
                _normalize_backward(dkey[0], scales[CHECKPOINT_EVERY], dkey[1], along)
                _normalize_backward(keys[s], scales[s], dkey[2], along)
                _store(dkey[1], rows, first + s, dq)
                _store(dkey[2], rows, first + s, dk)
                _store(now[2], rows, first + s, dv)
                _store(dgates[0], rows, first + s, ddecay)
                _store(dgates[1], rows, first + s, dbeta)
        for lane in range(len(rows)):
            dinitial[rows[lane, 0], rows[lane, 1]] = grad[:, :, lane]
