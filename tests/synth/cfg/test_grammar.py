"""Grammars: the nine, reading and writing, re-rooting, random ones, and what a user reads when something is wrong."""

import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from synth import cfg, get_task
from synth.cfg import formats
from synth.cfg.bundled import FOLDER
from synth.errors import UserError
from synth.tasks.cfg import Cfg

# name: level sizes, rules, mean length, least and greatest length, beginning of the digest. The digest names the rules
# and their order: a change there means that every sample of that grammar changes.
NINE = {
    "cfg3b": ([1] + [3] * 6, 32, 275.6, (138, 432), "9e9500a1"),
    "cfg3i": ([1] + [3] * 6, 32, 308.1, (114, 564), "83be6195"),
    "cfg3h": ([1] + [3] * 6, 39, 236.4, (97, 459), "0116d1db"),
    "cfg3g": ([1] + [3] * 6, 48, 252.4, (80, 729), "b25373b2"),
    "cfg3f": ([1] + [3] * 6, 54, 249.9, (64, 729), "bf6572bb"),
    "cfg3e1": ([1, 3, 9, 27, 81, 27, 9], 444, 198.6, (66, 557), "58e629db"),
    "cfg3e2": ([1, 3, 9, 27, 27, 9, 4], 228, 246.4, (82, 645), "af2618a7"),
    "cfg3j": ([1] + [3] * 7, 57, 543.9, (128, 2052), "d7c2eb5d"),
    "cfg3k": ([1] + [3] * 7, 68, 516.3, (132, 1458), "8dc77593"),
}


@pytest.mark.parametrize("name", cfg.NAMES)
def test_nine_grammars(name: str) -> None:
    grammar = cfg.load(name)
    sizes, rules, mean, bounds, digest = NINE[name]
    assert [len(symbols) for symbols in grammar.levels] == sizes
    assert sum(map(len, grammar.rules.values())) == rules
    assert grammar.mean_length == pytest.approx(mean, abs=0.06)
    assert (grammar.min_length, grammar.max_length) == bounds
    assert grammar.terminals == tuple(str(n + 1) for n in range(sizes[-1]))
    assert grammar.digest.startswith(digest)
    for symbols in grammar.levels[:-1]:  # the constraints that the papers built them under
        sides = [rhs for symbol in symbols for rhs in grammar.rules[symbol]]
        assert len(set(sides)) == len(sides) and {len(rhs) for rhs in sides} <= {2, 3}
        assert name != "cfg3b" or all(len(set(rhs)) == len(rhs) for rhs in sides)


def test_brackets() -> None:
    grammar = cfg.load("brackets")
    assert [len(symbols) for symbols in grammar.levels] == [1, 4, 5, 4, 10] and grammar.digest.startswith("730c901c")
    assert grammar.mean_length == 17 and (grammar.min_length, grammar.max_length) == (5, 29)
    for text, parses in {"((A+B)*(C-D))": 1, "(A+((B*C)-D))": 1, "(A)": 0, "((A+B)*(C-D)": 0, "A+B": 0}.items():
        assert cfg.count_parses(grammar, grammar.encode(text), [0, len(text)]) == parses, text
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(0), 200)
    assert (cfg.count_parses(grammar, tokens, offsets) == 1).all()
    assert formats.from_nltk(formats.to_nltk(grammar)) == grammar
    assert "brackets" not in cfg.NAMES and Cfg("brackets").contents() == {}  # known by name, and none of the papers'
    assert "cfg3" not in Cfg("brackets").citation() and get_task("brackets") == Cfg("brackets")


@pytest.mark.parametrize("name", ["cfg3b", "cfg3e1", "cfg3k"])
def test_own_reader_agrees_with_nltk(name: str) -> None:
    from nltk import CFG

    text = (FOLDER / f"{name}.cfg").read_text()
    assert formats.from_nltk(CFG.fromstring(text), keep_unreachable=True) == cfg.load(name)
    assert formats.from_nltk(formats.to_nltk(cfg.load(name)), keep_unreachable=True) == cfg.load(name)


def test_notation_as_nltk_reads_it() -> None:
    from nltk import PCFG

    text = """
    # a comment
    %start S
    A -> 'a' [0.25] | "b" 'a' [0.75]
    S -> A B [0.5] | B \\
         A [0.5]
    B -> 'it' [1]
    """
    grammar = cfg.Grammar.from_text(text)
    assert grammar.levels == (("S",), ("A", "B"), ("a", "b", "it"))
    assert grammar.weights == {"S": (0.5, 0.5), "A": (0.25, 0.75), "B": (1.0,)}
    assert cfg.from_nltk(PCFG.fromstring(text)) == grammar
    assert cfg.from_nltk(cfg.to_nltk(grammar)) == cfg.Grammar.from_text(grammar.to_text()) == grammar


def test_weights_survive_text_to_the_last_bit() -> None:
    grammar = cfg.Grammar.build("g", "S", {"S": [("a",), ("b",), ("c",)]}, {"S": [1 / 3 - 1e-9, 1 / 3 + 1e-9, 1 / 3]})
    assert cfg.Grammar.from_text(grammar.to_text()).weights == grammar.weights
    assert cfg.Grammar.from_text("S -> 'a' [0.333333] | 'b' [0.333333] | 'c' [0.333333]").uniform


@pytest.mark.parametrize("name", ["PRP$", "S@$@A", "-LRB-", "NP<VP>", ",", ":=", "Ñ"])
def test_names_of_treebanks_are_read_back(name: str) -> None:
    grammar = cfg.Grammar.build("g", "S", {"S": [(name,)], name: [("it's",), ('"',), ("->",), ("|",), ("[0.5]",)]})
    assert cfg.Grammar.from_text(grammar.to_text(), "g") == grammar


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"S": [("#",)], "#": [("a",)]}, "the nonterminal '#' cannot be written"),
        ({"S": [("%",)], "%": [("a",)]}, "the nonterminal '%' cannot be written"),
        ({"S": [("A B",)], "A B": [("a",)]}, "the nonterminal 'A B' cannot be written"),
        ({"S": [("A->B",)], "A->B": [("a",)]}, "the nonterminal 'A->B' cannot be written"),
        ({"S": [("""it's"so\"""",)]}, "both kinds of quotes"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(rules: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        cfg.Grammar.build("g", "S", rules).to_text()


@pytest.mark.parametrize(("terminal", "message"), [("", "the terminal '' is empty"), ("New York", "holds white space")])
def test_grammars_of_nltk_are_held_to_the_same(terminal: str, message: str) -> None:
    from nltk import CFG
    from nltk.grammar import Nonterminal, Production

    start = Nonterminal("S")
    with pytest.raises(UserError, match=message):
        cfg.from_nltk(CFG(start, [Production(start, [terminal])]))


def test_a_byte_order_mark_is_no_part_of_a_grammar(tmp_path) -> None:
    path = tmp_path / "mine.cfg"
    path.write_bytes(b"\xef\xbb\xbfS -> 'a'\r\nS -> 'x\xe2\x80\xa8'\r\n")
    with pytest.raises(UserError, match="line 2: the terminal .* holds white space"):
        cfg.load(path)
    path.write_bytes(b"\xef\xbb\xbfS -> 'a'\r\nS -> 'x'\r\n")
    assert cfg.load(path).terminals == ("a", "x")


def test_a_comment_ends_with_its_line() -> None:
    grammar = cfg.Grammar.from_text("# old \\\nS -> 'a' | 'c'\n")
    assert grammar.terminals == ("a", "c")


def test_content_decides_equality() -> None:
    one = cfg.Grammar.from_text("S -> A B\nA -> 'a'\nB -> 'b'", "one")
    two = cfg.Grammar.from_text("S -> A B\nB -> 'b'\nA -> 'a'", "two")
    assert one == two and hash(one) == hash(two) and len({one, two}) == 1
    assert one != cfg.Grammar.from_text("S -> B A\nA -> 'a'\nB -> 'b'")
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.decode(one.encode(["b", "a"])) == ["b", "a"]


def test_rooted_at_keeps_what_is_reached() -> None:
    rooted = cfg.load("cfg3i", "8")
    assert rooted.levels == (("8",), ("1", "2")) and rooted.rules == {"8": (("1", "1"), ("2", "2"))}
    middle = cfg.load("cfg3f", "16")
    assert middle.depth == 5 and middle.rules["16"] == cfg.load("cfg3f").rules["16"]
    assert cfg.load("cfg3f", "22") is not None and cfg.load("cfg3f", "22") == cfg.load("cfg3f")
    assert len(cfg.load("cfg3e1").with_root("160").levels[4]) == 72  # nine of its 81 are never reached


def release_json(grammar: cfg.Grammar) -> dict:
    """The grammar in the format of the public release."""
    place = {symbol: j for symbols in grammar.levels for j, symbol in enumerate(symbols)}

    def node(level: int, s: str) -> dict:
        children = [[place[child] for child in rhs] for rhs in grammar.rules[s]] if s in grammar.rules else None
        return {"depth": level, "id": int(s), "name": s, "children": children}

    return {
        "depth": grammar.depth - 1,
        "num_sym": len(grammar.terminals),
        "sizes": [len(symbols) for symbols in grammar.levels],
        "idx": [[int(s) for s in symbols] for symbols in grammar.levels],
        "all": [[node(level, s) for s in symbols] for level, symbols in enumerate(grammar.levels)],
        "disallow_duplicate_seq": "true",
    }


@pytest.mark.parametrize("name", ["cfg3b", "cfg3e1"])
def test_json_of_the_release(name: str, tmp_path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(release_json(cfg.load(name))))
    assert cfg.load(path) == cfg.load(name) and cfg.load(path).name == name


TEXTS = {
    "undefined": ("S -> A 'b'", "symbol A in S -> A b is undefined"),
    "unreachable": (
        "S -> 'a'\nB -> 'b'",
        "symbol B is unreachable from the root S; use it, delete its rules, or say which root is meant: %start B",
    ),
    "empty": ("S -> 'a' |", "line 1: a rule of S has an empty right-hand side"),
    "cycle": ("S -> A\nA -> B\nB -> A", "cycle, A -> B -> A;"),
    "self": ("S -> 'a' S", "cycle, S -> S;"),
    "skip": ("S -> A B\nA -> B\nB -> 'b'", "A -> B goes from level 2 to B on level 2"),
    "uneven": ("S -> A B\nA -> 'a'\nB -> C\nC -> 'c'", "terminal a sits on level 3"),
    "mixed": ("S -> A 'b'\nA -> 'a'", "terminal b sits on level 2"),
    "twice": ("S -> 'a' | 'b' | 'a'", "the rule S -> a is written twice"),
    "sum": ("S -> 'a' [0.5] | 'b' [0.4]", "probabilities of the rules of S sum to 0.9"),
    "zero": ("S -> 'a' [0] | 'b' [1]", "the probability of S -> a is 0"),
    "some": ("S -> 'a' [0.5] | 'b'", "line 1: only some rules of S have a probability"),
    "number": ("S -> 'a' [half]", "line 1: [half] is not a probability"),
    "no arrow": ("S -> 'a'\nS 'b'", "line 2: a rule begins with SYMBOL ->"),
    "open quote": ("\n\nS -> 'a", 'line 3: cannot read "\'a"'),
    "both": ("S -> A 'A'\nA -> 'a'", "symbol A is both a terminal and a nonterminal"),
    "nothing": ("# only this", "has no rules"),
    "start": ("%start T\nS -> 'a'", "the root T has no rules; start from one of: S"),
    "directive": ("%begin S\nS -> 'a'", "line 1: only '%start SYMBOL'"),
    "white space": ("S -> 'a b'", "line 1: the terminal 'a b' holds white space"),
    "loose backslash": ("S -> 'a'\nB -> 'b' \\", "symbol B is unreachable"),  # the last line is read all the same
    "order": ("S -> 'a' [0.5] 'b' | 'c' [0.5]", "line 1: expected |"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_text(case: str, tmp_path) -> None:
    text, message = TEXTS[case]
    path = tmp_path / "mine.cfg"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        cfg.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_names_files_and_roots(tmp_path) -> None:
    broken, list_ = tmp_path / "broken.json", tmp_path / "list.json"
    broken.write_text('{"depth": 1,\n oops}')
    list_.write_text('{"depth": 1}')
    binary = tmp_path / "binary.cfg"
    binary.write_bytes(b"\xff\xfe\x00")
    for source, root, message in [
        ("cfg3F", None, "did you mean cfg3f?"),
        ("nothing", None, "unknown grammar nothing; known: cfg3b"),
        (tmp_path / "gone.cfg", None, "cannot read the grammar file"),
        ("/dev/zero", None, "/dev/zero is no regular file"),
        (binary, None, "not UTF-8"),
        (broken, None, "broken.json, line 2: not JSON"),
        (list_, None, "needs idx[level][j] and all[level][j].children"),
        ("cfg3b", "99", "99 is no nonterminal of cfg3b; choose a root among: 22 19 20 21"),
        ("cfg3b", "1", "1 is no nonterminal"),
    ]:
        with pytest.raises(UserError, match=".") as caught:
            cfg.load(source, root)
        assert message in str(caught.value)


def test_bad_levels() -> None:
    for levels, rules, message in [
        ((("S",), ("a",)), {"S": ()}, "nonterminal S has no rules"),
        ((("S",), ("a",)), {"S": ((),)}, "empty right-hand side"),
        ((("S",), ("a",)), {"S": (("a",),), "T": (("a",),)}, "symbol T has rules but sits on no level"),
        ((("S",), ("A", "A"), ("a",)), {"S": (("A",),), "A": (("a",),)}, "symbol A is listed twice"),
        ((("S",),), {}, "no rules"),
    ]:
        with pytest.raises(UserError) as caught:
            cfg.Grammar("g", levels, rules)
        assert message in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_random_grammars_keep_their_constraints(seed: int) -> None:
    settings = cfg.RandomGrammar((1, 3, 9, 27, 9), (3, 4), (2, 3), distinct=seed % 2 == 0)
    grammar = cfg.random_grammar(settings, seed)
    assert grammar == cfg.random_grammar(settings, seed) != cfg.random_grammar(settings, seed + 1)
    assert tuple(map(len, grammar.levels)) == settings.level_sizes and grammar.levels[-1][0] == "1"
    assert int(grammar.root) == sum(settings.level_sizes) + 3
    for symbols, below in zip(grammar.levels, grammar.levels[1:], strict=False):
        rules = [rhs for symbol in symbols for rhs in grammar.rules[symbol]]
        assert {len(grammar.rules[symbol]) for symbol in symbols} <= {3, 4} and {len(rhs) for rhs in rules} == {2, 3}
        assert len(set(rules)) == len(rules) and {child for rhs in rules for child in rhs} == set(below)
        assert not settings.distinct or all(len(set(rhs)) == len(rhs) for rhs in rules)


def test_impossible_settings_say_why() -> None:
    for settings, message in [
        (dict(level_sizes=(2, 3)), "must begin with the one root"),
        (dict(level_sizes=(1, 2, 3), lengths=(3,), distinct=True), "too few for 3 distinct"),
        (dict(level_sizes=(1, 3, 1), lengths=(2, 3)), "level 2 needs 6 different right-hand sides"),
        (dict(level_sizes=(1, 9), degree=(2,), lengths=(2, 3)), "room for 6 symbols but level 2 has 9"),
        (dict(degree=()), "degree ()"),
        (dict(degree=(2.5,)), "degree=(2.5,) must be a tuple of whole numbers"),
        (dict(lengths=(True, 2)), "lengths=(True, 2)"),
        (dict(level_sizes=7), "level_sizes=7"),
    ]:
        with pytest.raises(UserError) as caught:
            cfg.RandomGrammar(**settings)
        assert message in str(caught.value)


def test_import_stays_light() -> None:
    code = "import sys, synth.cfg; synth.cfg.load('cfg3b'); print({'numba', 'nltk', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
