"""Mano: modular arithmetic without intermediate steps (Part 4.1, arXiv 2512.17351, section 2.1)."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Any, ClassVar

import numpy as np

from synth.compiled_code import njit
from synth.errors import UserError
from synth.random.numba_rng import draw_key, next_bounded, seed_state
from synth.task import Block, Example, Task
from synth.vocab import Vocab

KINDS = "+-*"


@dataclass(frozen=True)
class Mano(Task):
    """Evaluate a prefix expression modulo `modulus` in one step.

    Example (ops=2, modulus=5): `<bos> len2 + 4 - 4 3 ans 0`, which is 4 + (4 - 3) mod 5. The number of operators is
    uniform over least..ops.
    Source: Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A.
    Floors: correct of the most common value; loss and bits are the entropy of the expressions. All exact.
    """

    ops: int = 5
    """Largest number of operators in an expression."""
    least: int = 1
    """Smallest number of operators in an expression."""
    modulus: int = 23
    """Operands are 0..modulus-1, and results are taken modulo it."""
    operators: str = KINDS
    """Operators in use, of + - *."""
    synonyms: bool = False
    """Two ids for every operator, length and `ans`, as in the released code; else one, as in the paper."""

    name: ClassVar[str] = "mano"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A"
    presets: ClassVar[dict[str, dict[str, Any]]] = {f"mano-{n}": {"ops": n} for n in (10, 13, 16)}

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.ops:
            raise UserError(f"mano: least={self.least} must be between 1 and ops={self.ops}")
        if self.ops > 2**15:
            raise UserError(f"mano: ops={self.ops} must be at most {2**15}")
        if not 2 <= self.modulus <= 2**15:
            raise UserError(f"mano: modulus={self.modulus} must be between 2 and {2**15}")
        if not self.operators or len(set(self.operators)) < len(self.operators) or set(self.operators) - set(KINDS):
            raise UserError(f"mano: operators={self.operators!r} must be some of {KINDS}, each once")

    @property
    def ids_per_symbol(self) -> int:
        """Number of ids of each operator, length and `ans`."""
        return 1 + self.synonyms

    @property
    def length_id_base(self) -> int:
        """The id before those of the lengths; operands have ids 1..modulus and operators the next ones."""
        return self.modulus + self.ids_per_symbol * len(self.operators)

    @property
    def answer_id_base(self) -> int:
        """The id before those of `ans`."""
        return self.length_id_base + self.ids_per_symbol * self.ops

    def vocab(self) -> Vocab:
        numbers = [str(i) for i in range(self.modulus)]
        lengths = [f"len{n}" for n in range(1, self.ops + 1)]
        marks = [f"ans{n}" for n in range(1, self.ops + 1)] if self.synonyms else ["ans"]
        named = [*self.operators, *lengths, *marks]
        return Vocab((*numbers, *(name + form for name in named for form in ("", "'")[: self.ids_per_symbol])))

    def hardest(self) -> "Mano":
        """The same task with `ops` operators in every document, as models are tested."""
        return replace(self, least=self.ops)

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels on the answer: answer, 0, and difficulty, number of operators; both -1 elsewhere."""
        tokens, offsets = np.empty(n * (2 * self.ops + 5), np.int32), np.zeros(n + 1, np.int64)
        kinds = np.array([KINDS.index(operator) for operator in self.operators])
        _write_documents(draw_key(rng), n, self.least, self.ops, self.modulus, kinds, self.synonyms, tokens, offsets)
        tokens, last = tokens[: offsets[-1]].copy(), offsets[1:] - 1
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        ops = (np.diff(offsets) - 5) // 2
        truth = {}
        if labels:
            truth = {name: np.full(len(tokens), -1, np.int16) for name in ("answer", "difficulty")}
            truth["answer"][last], truth["difficulty"][last] = 0, ops
        return Block(tokens, offsets, mask, np.diff(offsets) - 1, {"ops": ops}, truth)

    def evaluate(self, expression: np.ndarray) -> int | None:
        """Value of a prefix expression (T,) of ids; None if it is malformed."""
        stack: list[int] = []
        for token in reversed(np.asarray(expression).tolist()):
            if 1 <= token <= self.modulus:
                stack.append(token - 1)
            elif self.modulus < token <= self.length_id_base and len(stack) > 1:
                a, b = stack.pop(), stack.pop()
                operator = self.operators[(token - self.modulus - 1) // self.ids_per_symbol]
                stack.append({"+": a + b, "-": a - b, "*": a * b}[operator] % self.modulus)
            else:
                return None
        return stack[0] if len(stack) == 1 else None

    def is_correct(self, document: np.ndarray) -> bool:
        """Whether a document is well-formed, with the right length token and the right answer."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        if len(ids) < 6 or len(ids) % 2:
            return False
        ops, mark = len(ids) // 2 - 2, ids[-2] - self.answer_id_base - 1
        if not self.least <= ops <= self.ops or (ids[0] - self.length_id_base - 1) // self.ids_per_symbol != ops - 1:
            return False
        mark_right = mark // self.ids_per_symbol == ops - 1 if self.synonyms else mark == 0
        return bool(mark_right) and self.evaluate(ids[1:-2]) == ids[-1] - 1

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 if the first token is the value (there is no <eos>); without an example, see `is_correct`."""
        if example is None:
            return {"correct": float(self.is_correct(completion))}
        return {"correct": float(np.array_equal(completion[:1], example.tokens[-1:]))}

    @cached_property
    def value_probabilities(self) -> np.ndarray:
        """Probability (ops+1, modulus) of each value of an expression of 0..ops operators."""
        table = np.full((self.ops + 1, self.modulus), 1 / self.modulus)
        i, j = np.indices((self.modulus, self.modulus))
        results = {"+": i + j, "-": i - j, "*": i * j}
        for m in range(1, self.ops + 1):
            pairs = table[:m].T @ table[m - 1 :: -1] / m  # values of the left and right operand, over all splits
            shares = [np.bincount((results[o] % self.modulus).ravel(), pairs.ravel()) for o in self.operators]
            table[m] = np.mean(shares, axis=0)
        return table

    def floors(self, world: None) -> dict[str, float]:
        """Exact. correct: of the most common value for the number of operators; loss: nats of the random expression per
        token; bits: of an expression."""
        ops, shape = np.arange(self.least, self.ops + 1), [0.0]
        for m in range(1, self.ops + 1):  # entropy of the split of the operators between operands, recursively
            shape.append(log(m) + 2 * sum(shape) / m)
        symbols = log(len(ops)) + ops * log(len(self.operators)) + (ops + 1) * log(self.modulus)
        nats = float(np.mean(symbols + np.array(shape)[ops] + self.synonyms * (ops + 2) * log(2)))
        correct = float(self.value_probabilities[ops].max(axis=1).mean())
        return {"correct": correct, "loss": nats / float(np.mean(2 * ops + 4)), "bits": nats / log(2)}


@njit()
def _sample_expression(state, ops, modulus, kinds, sizes, operators, operands):
    """Draw an expression: operators (2 ops + 1,), indices into `kinds` or -1 at an operand, and operands (2 ops + 1,),
    0 at an operator. The stack `sizes` has the numbers of operators of the subexpressions still to be written."""
    sizes[0], depth, at = ops, 1, 0
    while depth:
        depth -= 1
        size = sizes[depth]
        operators[at], operands[at] = -1, 0
        if size == 0:
            operands[at] = next_bounded(state, modulus)
        else:
            operators[at] = next_bounded(state, len(kinds))
            left = next_bounded(state, size)
            sizes[depth], sizes[depth + 1] = size - 1 - left, left
            depth += 2
        at += 1


@njit()
def _evaluate(count, modulus, kinds, stack, operators, operands):
    """Value of the first `count` tokens, read from the right."""
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


@njit()
def _write_documents(key, n, least, most, modulus, kinds, synonyms, tokens, offsets):
    """Write n documents into tokens, of at least n (2 most + 5) places, and offsets (n+1,)."""
    state, forms = np.empty(1, np.uint64), 2 if synonyms else 1
    room = np.empty((3, 2 * most + 1), np.int64)
    stack, operators, operands = room[0], room[1], room[2]
    lengths = modulus + forms * len(kinds)
    marks = lengths + forms * most
    at = 0
    for i in range(n):
        seed_state(state, key, i)
        ops = least + next_bounded(state, most - least + 1)
        count = 2 * ops + 1
        _sample_expression(state, ops, modulus, kinds, stack, operators, operands)
        tokens[at] = 0
        tokens[at + 1] = lengths + 1 + forms * (ops - 1) + next_bounded(state, forms)
        for j in range(count):
            if operators[j] < 0:
                tokens[at + 2 + j] = 1 + operands[j]
            else:
                tokens[at + 2 + j] = modulus + 1 + forms * operators[j] + next_bounded(state, forms)
        at += 2 + count
        tokens[at] = marks + 1 + (forms * (ops - 1) + next_bounded(state, forms) if synonyms else 0)
        tokens[at + 1] = 1 + _evaluate(count, modulus, kinds, stack, operators, operands)
        at += 2
        offsets[i + 1] = at
