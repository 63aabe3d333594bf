"""The chart that all exact oracles share, compiled by numba (Physics of Language Models, Part 1, Figure 4).

A chart lists, for each level and start, the items (end, symbol, value): the symbol's value for the stretch of tokens
between start and end. Most stretches are no phrase of most symbols, so the lists are short, and dense tables only
serve as scratch while the items of one start are summed. A value is a probability, a number of parses, or, with
`log`, the natural log of either: the slow path for sentences so long that float64 would underflow.
"""

import math

import numpy as np

from synth.compiled_code import njit

# Numbers below this may have lost digits in float64; the caller then starts again with logs.
UNDERFLOW_LIMIT = 1e-280


@njit(inline="always")
def _times(a, b, log):
    return a + b if log else a * b


@njit(inline="always")
def _plus(a, b, log):
    if not log:
        total = a + b
    elif a == -np.inf or b == -np.inf:
        total = max(a, b)
    else:
        total = max(a, b) + math.log1p(math.exp(-abs(a - b)))
    return total


@njit()
def _double_capacity(values):
    larger = np.empty(2 * len(values), values.dtype)
    larger[: len(values)] = values
    return larger


@njit()
def fill_chart(tokens, g, weight, log, space):
    """The chart of one sentence: (first, last, ends, symbols, values, exact).

    Items of a level at a start are first[level, start] : last[level, start] of the three lists; the root's level has
    items at start 0 only. weight (R,) belongs to the rules in the order of `done_symbol`. space: the three lists of an
    earlier call, used again. exact is False, and the chart unfinished, where a value came near underflow. Starts are
    filled from the right and levels from the bottom, so every item is made of items already there.
    """
    # Arrays taken out of the tuple once: numba counts references at each use of the tuple otherwise.
    level_first, state_first, step, longest = g.level_first, g.state_first, g.step, g.longest
    child_first, child_last, done_first, done_symbol = g.child_first, g.child_last, g.done_first, g.done_symbol
    n, depth = len(tokens), len(level_first) - 1
    zero, one = (-np.inf, 0.0) if log else (0.0, 1.0)
    ends, symbols, values = space
    first, last = np.zeros((depth, n + 1), np.int64), np.zeros((depth, n + 1), np.int64)
    room = 1
    for level in range(depth - 1):
        rows = max(state_first[level + 1] - state_first[level], level_first[level + 1] - level_first[level])
        room = max(room, rows * (min(n, longest[level]) + 1))
    matched, total = np.full(room, zero), np.full(room, zero)  # by (state, span) and by (symbol, span)
    queue_state, queue_end, found = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int64)
    used = 0
    for start in range(n - 1, -1, -1):
        first[depth - 1, start] = used
        if used == len(ends):
            ends, symbols, values = _double_capacity(ends), _double_capacity(symbols), _double_capacity(values)
        ends[used], symbols[used], values[used] = start + 1, tokens[start], one
        used += 1
        last[depth - 1, start] = used
        for level in range(depth - 2, -1 if start == 0 else 0, -1):
            base = state_first[level]
            width = min(n, longest[level]) + 1
            queue_state[0], queue_end[0], matched[0] = base, start, one
            waiting, here, completed = 1, 0, 0
            while here < waiting:
                state, end = queue_state[here], queue_end[here]
                here += 1
                place = (state - base) * width + end - start
                value = matched[place]
                matched[place] = zero
                for done in range(done_first[state], done_first[state + 1]):
                    place = done_symbol[done] * width + end - start
                    if total[place] == zero:
                        found[completed] = place
                        completed += 1
                    total[place] = _plus(total[place], _times(value, weight[done], log), log)
                    if not log and total[place] < UNDERFLOW_LIMIT:
                        return first, last, ends, symbols, values, False
                if end == n or child_first[state] == child_last[state]:
                    continue
                for item in range(first[level + 1, end], last[level + 1, end]):
                    after = step[state, symbols[item]]
                    # The scratch is wide enough: what is matched is at most `longest` and n long.
                    if after >= 0:
                        place = (after - base) * width + ends[item] - start
                        if matched[place] == zero:
                            queue_state[waiting], queue_end[waiting] = after, ends[item]
                            waiting += 1
                        matched[place] = _plus(matched[place], _times(value, values[item], log), log)
                        if not log and matched[place] < UNDERFLOW_LIMIT:
                            return first, last, ends, symbols, values, False
            first[level, start] = used
            while used + completed > len(ends):
                ends, symbols, values = _double_capacity(ends), _double_capacity(symbols), _double_capacity(values)
            for k in range(completed):
                place = found[k]
                ends[used], symbols[used], values[used] = start + place % width, place // width, total[place]
                total[place] = zero
                used += 1
            last[level, start] = used
    return first, last, ends, symbols, values, True


@njit()
def allocate_items(size):
    """Empty item lists, which `fill` enlarges as needed."""
    return np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float64)


@njit()
def root_values(tokens, offsets, g, weight, log):
    """Value (n,) of each whole sentence under the root, and whether it is exact (n,)."""
    n = len(offsets) - 1
    values, exact = np.full(n, -np.inf if log else 0.0), np.ones(n, np.bool_)
    space = allocate_items(4096)
    for i in range(n):
        sentence = tokens[offsets[i] : offsets[i + 1]]
        if len(sentence) == 0:
            continue
        first, last, ends, symbols, cells, exact[i] = fill_chart(sentence, g, weight, log, space)
        space = (ends, symbols, cells)
        for item in range(first[0, 0], last[0, 0]):
            if ends[item] == len(sentence):
                values[i] = cells[item]
    return values, exact


@njit()
def next_token_rows(tokens, g, weight, log, space):
    """Next-token rows (T+1, K+1) of one sentence : (rows, exact, space).

    starts[level][k, symbol] is the probability that tokens[:k] comes out and that the symbol begins at k. Within a
    level, what each rule would bring is summed up the trie (`ahead`), and every beginning of a right-hand side that
    the tokens allow passes it on to the children that may follow.
    """
    n, depth, count = len(tokens), len(g.level_first) - 1, g.level_first[-1] - g.level_first[-2]
    zero, one = (-np.inf, 0.0) if log else (0.0, 1.0)
    level_first, state_first, step, parent, incoming = g.level_first, g.state_first, g.step, g.parent, g.incoming
    child_first, child_last, longest = g.child_first, g.child_last, g.longest
    done_first, done_symbol = g.done_first, g.done_symbol
    first, last, ends, symbols, values, exact = fill_chart(tokens, g, weight, log, space)
    rows = np.zeros((n + 1, count + 1))
    if not exact:
        return rows, False, (ends, symbols, values)
    starts = np.full((n + 1, 1), zero)
    starts[0, 0] = one
    for level in range(depth - 1):
        base, states = state_first[level], state_first[level + 1] - state_first[level]
        width = min(n, longest[level]) + 1
        matched = np.full(states * width, zero)
        queue_state, queue_end = np.empty(states * width, np.int32), np.empty(states * width, np.int32)
        ahead = np.empty(states)
        below = np.full((n + 1, level_first[level + 2] - level_first[level + 1]), zero)
        for start in range(n + 1):
            if not np.any(starts[start] > zero):
                continue
            ahead[:] = zero
            for state in range(states - 1, -1, -1):
                for done in range(done_first[base + state], done_first[base + state + 1]):
                    begun = starts[start, done_symbol[done]]
                    ahead[state] = _plus(ahead[state], _times(begun, weight[done], log), log)
                    if not log and begun > 0 and ahead[state] < UNDERFLOW_LIMIT:
                        exact = False
                if state > 0:
                    up = parent[base + state] - base
                    ahead[up] = _plus(ahead[up], ahead[state], log)
            queue_state[0], queue_end[0], matched[0] = base, start, one
            waiting, here = 1, 0
            while here < waiting:
                state, end = queue_state[here], queue_end[here]
                here += 1
                place = (state - base) * width + end - start
                value = matched[place]
                matched[place] = zero
                for after in range(child_first[state], child_last[state]):
                    if ahead[after - base] > zero:
                        child = incoming[after]
                        below[end, child] = _plus(below[end, child], _times(value, ahead[after - base], log), log)
                        if not log and below[end, child] < UNDERFLOW_LIMIT:
                            exact = False
                if end == n:
                    continue
                for item in range(first[level + 1, end], last[level + 1, end]):
                    after = step[state, symbols[item]]
                    if after >= 0 and ahead[after - base] > zero and child_first[after] < child_last[after]:
                        place = (after - base) * width + ends[item] - start
                        if matched[place] == zero:
                            queue_state[waiting], queue_end[waiting] = after, ends[item]
                            waiting += 1
                        matched[place] = _plus(matched[place], _times(value, values[item], log), log)
        starts = below
    whole = np.full(n + 1, zero)
    for item in range(first[0, 0], last[0, 0] if n > 0 else 0):
        whole[ends[item]] = values[item]
    for k in range(n + 1):
        prefix = one if k == 0 else starts[k - 1, tokens[k - 1]]
        if prefix == zero:
            break
        for token in range(count):
            rows[k, token] = math.exp(starts[k, token] - prefix) if log else starts[k, token] / prefix
        rows[k, count] = math.exp(whole[k] - prefix) if log else whole[k] / prefix
    return rows, exact, (ends, symbols, values)


@njit()
def fill_next_token_rows(tokens, offsets, g, weight, log_weight, rows):
    """Fills rows (N+n, K+1), sentence by sentence; a sentence that comes near underflow is done again with logs."""
    space = allocate_items(4096)
    for i in range(len(offsets) - 1):
        sentence = tokens[offsets[i] : offsets[i + 1]]
        found, exact, space = next_token_rows(sentence, g, weight, False, space)
        if not exact:
            found, exact, space = next_token_rows(sentence, g, log_weight, True, space)
        rows[offsets[i] + i : offsets[i + 1] + i + 1] = found
