"""Loading grammars: by name, or from a file."""

import difflib
from functools import cache
from pathlib import Path

from synth.cfg.formats import from_json, read_grammar_file
from synth.cfg.grammar import Grammar
from synth.errors import UserError

FOLDER = Path(__file__).parent / "grammars"
NAMES = ("cfg3b", "cfg3i", "cfg3h", "cfg3g", "cfg3f", "cfg3e1", "cfg3e2", "cfg3j", "cfg3k")  # the papers'
BUNDLED = (*NAMES, "brackets")  # every grammar known by name


def load(name_or_path: str | Path, root: str | None = None) -> Grammar:
    """A grammar by name (one of BUNDLED), or from a file: nltk notation, or .json of the PhysicsLM4 release.

    root: start symbol, if another than the grammar's (see `Grammar.with_root`). Raises UserError on an unknown name or
    root, and on a file that is not a layered grammar.
    """
    if str(name_or_path) in BUNDLED:
        return _bundled(str(name_or_path), root)
    return _rooted(_load(name_or_path), root)


@cache
def _bundled(name: str, root: str | None) -> Grammar:
    # cfg3e1 was published with symbols that its root never reaches.
    grammar = Grammar.from_text((FOLDER / f"{name}.cfg").read_text(), name, keep_unreachable=True)
    return _rooted(grammar, root)


def _rooted(grammar: Grammar, root: str | None) -> Grammar:
    return grammar if root in (None, grammar.root) else grammar.with_root(str(root))


def _load(name_or_path: str | Path) -> Grammar:
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        close = difflib.get_close_matches(str(path).lower(), BUNDLED, 1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown grammar {path}; {guess}known: {' '.join(BUNDLED)}, or a path to .cfg, .txt or .json")
    if path.suffix == ".json":
        return from_json(path)
    return Grammar.from_text(read_grammar_file(path), path.name)
