"""Mano: prefix expressions of modular arithmetic, answered without a step in between (Part 4.1, arXiv 2512.17351,
section 2.1 and appendix A).

A document is <bos>, the number l of operators, the expression (l operators, l + 1 operands), `ans`, its value.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Any, ClassVar

import numpy as np
from numba import njit

from synth.errors import UserError
from synth.random.numba_rng import begin, below, key
from synth.task import Block, Example, Task
from synth.vocab import Vocab

KINDS = "+-*"


@dataclass(frozen=True)
class Mano(Task):
    """ops: the most operators of an expression, least: the fewest, all numbers between being equally likely; operators:
    which of + - * there are; modulus: operands are 0..modulus-1.

    synonyms: as in the released code, every operator, every length and every `ans` has two ids of which one is drawn,
    and `ans` tells the length again. Else, as in the paper, one id each and a plain `ans`.
    """

    ops: int = 5
    least: int = 1
    modulus: int = 23
    operators: str = KINDS
    synonyms: bool = False

    name: ClassVar[str] = "mano"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A"
    presets: ClassVar[dict[str, dict[str, Any]]] = {f"mano-{n}": {"ops": n} for n in (10, 13, 16)}

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.ops:
            raise UserError(f"mano: least={self.least} must be between 1 and ops={self.ops}")
        if not 2 <= self.modulus <= 2**15:
            raise UserError(f"mano: modulus={self.modulus} must be between 2 and {2**15}")
        if not self.operators or len(set(self.operators)) < len(self.operators) or set(self.operators) - set(KINDS):
            raise UserError(f"mano: operators={self.operators!r} must be some of {KINDS}, each once")

    @property
    def forms(self) -> int:
        """Ids of an operator."""
        return 1 + self.synonyms

    @property
    def lengths(self) -> int:
        """The id before those of the lengths; operands have the ids 1..modulus, operators those from there to here."""
        return self.modulus + self.forms * len(self.operators)

    @property
    def marks(self) -> int:
        """The id before those of `ans`."""
        return self.lengths + self.forms * self.ops

    def vocab(self) -> Vocab:
        numbers = [str(i) for i in range(self.modulus)]
        lengths = [f"len{n}" for n in range(1, self.ops + 1)]
        marks = [f"ans{n}" for n in range(1, self.ops + 1)] if self.synonyms else ["ans"]
        named = [*self.operators, *lengths, *marks]
        return Vocab((*numbers, *(name + form for name in named for form in ("", "'")[: self.forms])))

    def hardest(self) -> "Mano":
        """The same with `ops` operators in every document, as it is tested."""
        return replace(self, least=self.ops)

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents; label `answer` is 0 on the answer and `difficulty` has the operators there, else both are -1."""
        tokens, offsets = np.empty(n * (2 * self.ops + 5), np.int32), np.zeros(n + 1, np.int64)
        kinds = np.array([KINDS.index(operator) for operator in self.operators])
        _write(key(rng), n, self.least, self.ops, self.modulus, kinds, self.synonyms, tokens, offsets)
        tokens, last = tokens[: offsets[-1]].copy(), offsets[1:] - 1
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        ops = (np.diff(offsets) - 5) // 2
        truth = {}
        if labels:
            truth = {name: np.full(len(tokens), -1, np.int16) for name in ("answer", "difficulty")}
            truth["answer"][last], truth["difficulty"][last] = 0, ops
        return Block(tokens, offsets, mask, np.diff(offsets) - 1, {"ops": ops}, truth)

    def value(self, expression: np.ndarray) -> int | None:
        """The value of a prefix expression (T,) of ids; None where it is none."""
        stack: list[int] = []
        for token in reversed(np.asarray(expression).tolist()):
            if 1 <= token <= self.modulus:
                stack.append(token - 1)
            elif self.modulus < token <= self.lengths and len(stack) > 1:
                a, b = stack.pop(), stack.pop()
                operator = self.operators[(token - self.modulus - 1) // self.forms]
                stack.append({"+": a + b, "-": a - b, "*": a * b}[operator] % self.modulus)
            else:
                return None
        return stack[0] if len(stack) == 1 else None

    def judged(self, document: np.ndarray) -> bool:
        """Whether a document is of this form and its length and its answer are right."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        if len(ids) < 6 or len(ids) % 2:
            return False
        ops, mark = len(ids) // 2 - 2, ids[-2] - self.marks - 1
        if not self.least <= ops <= self.ops or (ids[0] - self.lengths - 1) // self.forms != ops - 1:
            return False
        told = mark // self.forms == ops - 1 if self.synonyms else mark == 0
        return bool(told) and self.value(ids[1:-2]) == ids[-1] - 1

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 when the first token is the value; what follows is not looked at, as documents have no <eos>.
        Without an example: 1 for a whole document that is right."""
        if example is None:
            return {"correct": float(self.judged(completion))}
        return {"correct": float(np.array_equal(completion[:1], example.tokens[-1:]))}

    @cached_property
    def values(self) -> np.ndarray:
        """Probability (ops+1, modulus) of each value of an expression of 0, 1, ... operators."""
        found = np.full((self.ops + 1, self.modulus), 1 / self.modulus)
        i, j = np.indices((self.modulus, self.modulus))
        results = {"+": i + j, "-": i - j, "*": i * j}
        for m in range(1, self.ops + 1):
            pairs = found[:m].T @ found[m - 1 :: -1] / m  # of the left and the right part, over all splits
            shares = [np.bincount((results[o] % self.modulus).ravel(), pairs.ravel()) for o in self.operators]
            found[m] = np.mean(shares, axis=0)
        return found

    def floors(self, world: None) -> dict[str, float]:
        """correct: always the commonest value of as many operators (for a prime modulus with *, that is 0); loss:
        nats of the expression, which cannot be foreseen, by all tokens; bits: of an expression. All exact."""
        ops, shape = np.arange(self.least, self.ops + 1), [0.0]
        for m in range(1, self.ops + 1):  # entropy of how the operators are split, part by part
            shape.append(log(m) + 2 * sum(shape) / m)
        drawn = log(len(ops)) + ops * log(len(self.operators)) + (ops + 1) * log(self.modulus)
        nats = float(np.mean(drawn + np.array(shape)[ops] + self.synonyms * (ops + 2) * log(2)))
        correct = float(self.values[ops].max(axis=1).mean())
        return {"correct": correct, "loss": nats / float(np.mean(2 * ops + 4)), "bits": nats / log(2)}


@njit(cache=True, nogil=True)
def _draw(state, ops, modulus, kinds, sizes, operators, operands):
    """An expression of `ops` operators: operators (2 ops + 1,) numbers into `kinds`, -1 at an operand; operands the
    same, 0 at an operator. Before each token the stack `sizes` has the operators of the parts yet to be written."""
    sizes[0], depth, at = ops, 1, 0
    while depth:
        depth -= 1
        size = sizes[depth]
        operators[at], operands[at] = -1, 0
        if size == 0:
            operands[at] = below(state, modulus)
        else:
            operators[at] = below(state, len(kinds))
            left = below(state, size)
            sizes[depth], sizes[depth + 1] = size - 1 - left, left
            depth += 2
        at += 1


@njit(cache=True, nogil=True)
def _evaluate(count, modulus, kinds, stack, operators, operands):
    """The value of the first `count` tokens, read from the right."""
    depth = 0
    for at in range(count - 1, -1, -1):
        if operators[at] < 0:
            stack[depth] = operands[at]
            depth += 1
            continue
        a, b, kind = stack[depth - 1], stack[depth - 2], kinds[operators[at]]
        depth -= 1
        stack[depth - 1] = (a + b if kind == 0 else a - b + modulus if kind == 1 else a * b) % modulus
    return stack[0]


@njit(cache=True, nogil=True)
def _write(key, n, least, most, modulus, kinds, synonyms, tokens, offsets):
    """Writes n documents end to end into tokens (at least n (2 most + 5),) and where they begin into offsets (n+1,)."""
    state, forms = np.empty(1, np.uint64), 2 if synonyms else 1
    room = np.empty((3, 2 * most + 1), np.int64)
    stack, operators, operands = room[0], room[1], room[2]
    lengths = modulus + forms * len(kinds)
    marks = lengths + forms * most
    at = 0
    for i in range(n):
        begin(state, key, i)
        ops = least + below(state, most - least + 1)
        count = 2 * ops + 1
        _draw(state, ops, modulus, kinds, stack, operators, operands)
        tokens[at] = 0
        tokens[at + 1] = lengths + 1 + forms * (ops - 1) + below(state, forms)
        for j in range(count):
            if operators[j] < 0:
                tokens[at + 2 + j] = 1 + operands[j]
            else:
                tokens[at + 2 + j] = modulus + 1 + forms * operators[j] + below(state, forms)
        at += 2 + count
        tokens[at] = marks + 1 + (forms * (ops - 1) + below(state, forms) if synonyms else 0)
        tokens[at + 1] = 1 + _evaluate(count, modulus, kinds, stack, operators, operands)
        at += 2
        offsets[i + 1] = at
