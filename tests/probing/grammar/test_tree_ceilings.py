"""Ceilings of what can be known of a tree."""

import pytest

from probing.grammar.tree_ceilings import TreeCeilings
from synth import UserError, get_task
from synth.tasks.cfg import Cfg


def test_a_whole_sentence_of_one_parse_leaves_no_doubt_and_a_prefix_does() -> None:
    rows = TreeCeilings(sentences=200).measure(None, Cfg("cfg3b", "14"), 0)
    of = {(row["level"], row["given"], row["target"]): row["accuracy"] for row in rows}
    assert len(of) == 12
    for (level, given, target), accuracy in of.items():
        assert accuracy == 1 if given == "sentence" else 0.5 < accuracy <= 1, (level, given, target)
    assert of[2, "prefix", "ancestor"] < of[2, "prefix", "end"], "that a subtree ended tells which"


def test_a_sentence_of_several_parses_leaves_a_doubt(tmp_path) -> None:
    """X and Y write the same: half of the ancestors can only be guessed."""
    (tmp_path / "two.cfg").write_text("S -> X X | Y Y\nX -> 'a' | 'b'\nY -> 'a' | 'b'\n")
    rows = TreeCeilings(sentences=400).measure(None, Cfg(str(tmp_path / "two.cfg")), 0)
    of = {(row["given"], row["target"]): row["accuracy"] for row in rows}
    assert of["sentence", "ancestor"] == pytest.approx(0.5, abs=0.08) == of["prefix", "end"]
    assert of["sentence", "boundary"] == of["prefix", "boundary"] == 1


def test_only_grammars_have_trees() -> None:
    with pytest.raises(UserError, match="mano has none"):
        TreeCeilings().measure(None, get_task("mano"), 0)
