"""Converting grammars: to and from nltk objects, and from the JSON of the public PhysicsLM4 release (Part 4.1)."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth.atomic_io import read_at_most
from synth.cfg.grammar import Grammar
from synth.errors import UserError

MAX_FILE_BYTES = 2_000_000  # the papers' largest grammar has 6,000


def from_nltk(grammar: Any, name: str = "grammar", keep_unreachable: bool = False) -> Grammar:
    """The grammar of an nltk CFG or PCFG, or of a string in nltk notation. Raises UserError if it is not layered."""
    if isinstance(grammar, str):
        return Grammar.from_text(grammar, name, keep_unreachable)
    if not hasattr(grammar, "productions"):
        raise UserError(f"expected an nltk CFG or PCFG or a string, not {type(grammar).__name__}")
    rules: dict[str, list[tuple[str, ...]]] = {str(grammar.start()): []}
    weights: dict[str, list[float]] = {}
    terminals = set()
    for production in grammar.productions():
        rhs = production.rhs()
        terminals |= {str(child) for child in rhs if isinstance(child, str)}
        symbol = str(production.lhs())
        rules.setdefault(symbol, []).append(tuple(map(str, rhs)))
        if hasattr(production, "prob"):
            weights.setdefault(symbol, []).append(production.prob())
    return Grammar.build(name, str(grammar.start()), rules, weights, terminals, keep_unreachable)


def to_nltk(grammar: Grammar, probabilities: bool = True) -> Any:
    """An nltk PCFG (or CFG, without probabilities) with the same symbols and rules in the same order."""
    from nltk.grammar import CFG, PCFG, Nonterminal, ProbabilisticProduction, Production

    def child(symbol: str) -> Any:
        return Nonterminal(symbol) if symbol in grammar.rules else symbol

    pairs = [
        (Nonterminal(symbol), [child(name) for name in rhs], weight)
        for symbol, alternatives in grammar.rules.items()
        for rhs, weight in zip(alternatives, grammar.weights[symbol], strict=True)
    ]
    if not probabilities:
        return CFG(Nonterminal(grammar.root), [Production(lhs, rhs) for lhs, rhs, _ in pairs])
    return PCFG(Nonterminal(grammar.root), [ProbabilisticProduction(lhs, rhs, prob=w) for lhs, rhs, w in pairs])


def to_tree(derivation: tuple | str) -> Any:
    """The nltk.Tree of a derivation that `derive` returned."""
    from nltk.tree import Tree

    if isinstance(derivation, str):
        return derivation
    return Tree(derivation[0], [to_tree(child) for child in derivation[1:]])


def from_json(source: Mapping | str | Path, name: str | None = None) -> Grammar:
    """The grammar of a JSON file, or parsed object, of the PhysicsLM4 release. Raises UserError on another format.

    `idx[level][j]` is the number of a symbol: terminals from 1, three reserved numbers, then the nonterminals from the
    bottom level up. `all[level][j]["children"]` are its right-hand sides, as positions j in the next level, equally
    probable. Unreachable symbols are kept.
    """
    if not isinstance(source, Mapping):
        path = Path(source)
        name = name or path.stem
        source = _load_json(path)
    name = name or "grammar"
    try:
        idx, nodes = source["idx"], source["all"]
        levels = tuple(tuple(str(number) for number in numbers) for numbers in idx)
        rules = {
            symbol: tuple(tuple(_child(levels[level + 1], k) for k in rhs) for rhs in nodes[level][j]["children"])
            for level in range(len(levels) - 1)
            for j, symbol in enumerate(levels[level])
        }
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{name} is not a grammar of the PhysicsLM4 release ({type(error).__name__}: {error}); "
            "it needs idx[level][j] and all[level][j].children"
        ) from None
    for key in ("content_map", "double_data_layer", "multi_vocab"):
        if source.get(key):
            raise UserError(f"{name} uses {key}, which is outside the published grammars; remove it")
    return Grammar(name, levels, rules)


def _child(below: tuple[str, ...], position: int) -> str:
    if position < 0:
        raise IndexError(f"negative child {position}")
    return below[position]


def _load_json(path: Path) -> Mapping:
    text = read_grammar_file(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path.name}, line {error.lineno}: not JSON ({error.msg})") from None
    except (RecursionError, ValueError):  # brackets in brackets in ..., or a number of thousands of digits
        raise UserError(f"{path.name} nests too deeply or holds too long a number for a grammar") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path.name} is not a grammar of the PhysicsLM4 release; it needs a JSON object")
    return content


def read_grammar_file(path: Path) -> str:
    """Text of a grammar file. Raises UserError if it cannot be read or is too large."""
    try:
        return io.TextIOWrapper(io.BytesIO(read_at_most(path, MAX_FILE_BYTES)), "utf-8-sig").read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the grammar file {path}: {reason}; check the path") from None
