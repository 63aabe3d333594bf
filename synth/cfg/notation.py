"""nltk's grammar notation, ``A -> B 'c' [0.75] | 'd' [0.25]``, without nltk, which is slow to import."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.errors import UserError

# A name may hold more than nltk's own reader takes: PRP$, -LRB- and S@NP of treebanks.
NAME = r"""(?:[^\s'"|\[\]→-]|-(?!>))+"""
TOKEN = re.compile(
    r"""\s*(?:(?P<arrow>->|→)|(?P<bar>\|)|'(?P<single>[^']*)'|"(?P<double>[^"]*)"|\[(?P<weight>[^\]]*)\]"""
    rf"""|(?P<name>{NAME}))"""
)


@dataclass
class ParsedGrammar:
    """Root, rules and weights by left-hand side, and the quoted symbols, of a grammar text."""

    root: str = ""
    rules: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    weights: dict[str, list[float]] = field(default_factory=dict)
    terminals: set[str] = field(default_factory=set)


def read(text: str, source: str = "grammar") -> ParsedGrammar:
    """Parse a text; the root is X of a line ``%start X``, else the first left-hand side. Raises UserError."""
    parsed = ParsedGrammar()
    for number, line in _lines(text):
        if line.startswith("%"):
            words = line[1:].split()
            if len(words) != 2 or words[0] != "start":
                raise UserError(f"{source}, line {number}: only '%start SYMBOL' may begin with %, not: {line}")
            parsed.root = words[1]
        else:
            _read_rule(line, f"{source}, line {number}", parsed)
    if not parsed.rules:
        raise UserError(f"{source} has no rules; write lines such as S -> A B | B A and A -> 'a'")
    parsed.root = parsed.root or next(iter(parsed.rules))
    return parsed


def _lines(text: str) -> list[tuple[int, str]]:
    """Numbered lines without blanks and comments; a backslash at the end of a line continues it on the next."""
    lines: list[tuple[int, str]] = []
    pending: list[str] = []  # parts of an unfinished line
    number = 0
    for number, part in enumerate(re.split(r"\r\n?|\n", text), 1):
        part = part.strip()
        joined = part.endswith("\\") and not (part.startswith("#") and not pending)  # a comment ends with its line
        pending.append(part[:-1].rstrip() if joined else part)
        if not joined:
            lines.append((number, " ".join(pending)))
            pending = []
    if pending:  # the text ends with a backslash
        lines.append((number, " ".join(pending)))
    stripped = ((number, line.strip()) for number, line in lines)
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _tokens(line: str, where: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(line):
        match = TOKEN.match(line, position)
        if match is None:
            raise UserError(f"{where}: cannot read {line[position:].strip()!r}; write S -> SYMBOL 'terminal' | ...")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return tokens


def _read_rule(line: str, where: str, parsed: ParsedGrammar) -> None:
    tokens = _tokens(line, where)
    if len(tokens) < 2 or tokens[0][0] != "name" or tokens[1][0] != "arrow":
        raise UserError(f"{where}: a rule begins with SYMBOL ->, not: {line}")
    symbol = tokens[0][1]
    rhs: list[str] = []
    weight: float | None = None
    for kind, value in [*tokens[2:], ("bar", "|")]:
        if kind == "bar":
            _add(symbol, rhs, weight, where, parsed)
            rhs, weight = [], None
        elif kind == "arrow" or weight is not None:
            raise UserError(f"{where}: expected | or the end of the line before {value!r}")
        elif kind == "weight":
            weight = _number(value, where)
        else:
            rhs.append(value)
            if kind != "name":
                parsed.terminals.add(value)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: [{text}] is not a probability; write a number such as [0.25]") from None


def _add(symbol: str, rhs: list[str], weight: float | None, where: str, parsed: ParsedGrammar) -> None:
    if not rhs:
        raise UserError(f"{where}: a rule of {symbol} has an empty right-hand side; give it symbols or delete it")
    for child in rhs:
        check_terminal(child, f"{where}: ")
    weights = parsed.weights.get(symbol, [])
    if parsed.rules.get(symbol) and (weight is None) == bool(weights):
        raise UserError(f"{where}: only some rules of {symbol} have a probability; give one to each or to none")
    parsed.rules.setdefault(symbol, []).append(tuple(rhs))
    if weight is not None:
        parsed.weights.setdefault(symbol, []).append(weight)


def check_terminal(name: str, where: str = "") -> None:
    """Raise UserError for a terminal that no text of tokens can hold: an empty one, or one with white space."""
    if not name:
        raise UserError(f"{where}the terminal '' is empty; write its name or delete it")
    if any(letter.isspace() for letter in name):
        mend = "join its parts with _ or write several terminals"
        raise UserError(f"{where}the terminal {name!r} holds white space, which parts tokens; {mend}")


def _check_spelling(rules: Mapping[str, Sequence[Sequence[str]]], terminals: Sequence[str]) -> None:
    """Raise UserError for a symbol that `read` would take for something else."""
    for symbol in rules:
        if not re.fullmatch(NAME, symbol) or symbol[0] in "#%" or symbol[-1] == "\\":
            raise UserError(f"the nonterminal {symbol!r} cannot be written in nltk's notation; rename it")
    for terminal in terminals:
        if "'" in terminal and '"' in terminal:
            raise UserError(f"the terminal {terminal} has both kinds of quotes, so that it cannot be quoted; rename it")


def write(
    rules: Mapping[str, Sequence[Sequence[str]]],
    weights: Mapping[str, Sequence[float]] | None,
    terminals: Sequence[str],
) -> str:
    """The text of rules, one left-hand side a line in the order given; weights None: without probabilities. Raises
    UserError for a symbol that `read` could not read."""
    _check_spelling(rules, terminals)
    quoted = {terminal: f'"{terminal}"' if "'" in terminal else f"'{terminal}'" for terminal in terminals}
    lines = []
    for symbol, alternatives in rules.items():
        texts = [" ".join(quoted.get(child, child) for child in rhs) for rhs in alternatives]
        if weights is not None:
            texts = [f"{text} [{_decimal(w)}]" for text, w in zip(texts, weights[symbol], strict=True)]
        lines.append(f"{symbol} -> " + " | ".join(texts))
    return "\n".join(lines) + "\n"


def _decimal(weight: float) -> str:
    # nltk reads digits and a point only, no exponent.
    return np.format_float_positional(weight, trim="0")
