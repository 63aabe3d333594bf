"""A sentence as a web page: trees from answers, runs found on disk, bad input, hostile terminals, a real browser."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import browser
import numpy as np
import pytest

from lm.config import ModelConfig
from lm.model import build
from lm.pretrained import save
from probing.__main__ import run
from probing.tree_view.parse_trees import (
    Node,
    ancestors_of,
    nodes_of_derivation,
    nodes_of_predictions,
    parents,
    unary_links,
)
from probing.tree_view.tree_reader import TreeReader
from synth import UserError, cfg
from synth.identity import canonical
from synth.tasks.cfg import Cfg

SENTENCE = "((A+B)*(C-D))"
HOSTILE = [
    "</script><img/src=x/onerror=alert(1)>", "<!--<script>", '"><svg/onload=alert(2)>', "&lt;b&gt;", "${alert(3)}",
    "\\u003c/script\\u003e", "https://example.org/x.png", "\u202e\u200bz",
]  # fmt: skip
AMBIGUOUS = "S -> A B | B A | A A B B | B B A A | A B A B\nA -> 'x' | 'x' 'y'\nB -> 'y' | 'y' 'y' | 'x' 'y'"


def planted(folder: Path, task, context: int = 32, size: int | None = None) -> Path:
    """A finished run with an untrained model."""
    model = build(ModelConfig(2, 2, 16, max_seq_len=context), size or task.vocab().size, 0)
    save(model, folder / "model")
    record = {"run": {"class": "Run", "task": canonical(task), "seeds": {"data": 0, "init": 0, "order": 0}}}
    (folder / "run.json").write_text('{"checksum": ""}\n' + json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """abc1: brackets; abd: hostile terminals; amb: an ambiguous grammar; and runs that will not do."""
    from synth.tasks.bios import BioS

    root = tmp_path_factory.mktemp("show") / "runs"
    planted(root / "abc1", Cfg("brackets"))
    planted(root / "narrow", Cfg("brackets"), context=12)
    planted(root / "foreign", Cfg("brackets"), size=9)
    planted(root / "people", BioS(people=4))
    (root / "bare").mkdir()
    (root / "half.partial").mkdir()
    planted(root / "cut", Cfg("brackets"))
    (root / "cut/run.json").write_text('{"checksum": ""}\n{"run": ')
    quoted = [f"'{token}'" for token in HOSTILE]
    pairs = [f"{x} {y} | {y} {x}" for x, y in zip(quoted[::2], quoted[1::2], strict=True)]
    hostile = "S -> A B C D | D C B A\n" + "\n".join(map(" -> ".join, zip("ABCD", pairs, strict=True)))
    for name, text in {"abd": hostile, "amb": AMBIGUOUS}.items():
        path = root.parent / f"{name}.cfg"
        path.write_text(text, "utf-8")
        planted(root / name, Cfg(str(path)))
    return root


def page(runs: Path, *words: object) -> tuple[str, dict]:
    """What the command says, and the data in the page that it writes."""
    out = runs.parent / "page.html"
    said = run(["show", "--runs-dir", str(runs), "--output", str(out), *map(str, words)])
    found = re.search(r'id="data">(.*?)</script>', out.read_text("utf-8"), re.S)
    assert found
    return said, json.loads(found[1])


def test_a_derivation_as_nodes_without_links() -> None:
    grammar = cfg.load("brackets")
    nodes = nodes_of_derivation(cfg.derive(grammar, grammar.encode(SENTENCE)))
    shown = [node for node in nodes if node not in unary_links(grammar, nodes)]
    assert shown == [Node(1, 0, 13, "E1"), Node(2, 1, 6, "E2"), Node(2, 7, 12, "E2")]
    assert parents(shown) == [-1, 0, 0] and parents(shown[::-1]) == [2, 2, -1]
    block = Cfg("brackets").sample_block(grammar, np.random.default_rng(0), "test", 20, labels=True)
    for i in range(20):
        tokens, ancestors = block[i].tokens[1:-1] - 1, block[i].labels["ancestor"][1:-1, 1:-1]
        assert (
            ancestors_of(grammar, nodes_of_derivation(cfg.derive(grammar, tokens)), len(tokens)) == ancestors.T
        ).all()


def test_answers_always_make_a_tree() -> None:
    """Right answers give the true tree; a wrong end on a high level ends what is below it too."""
    grammar = cfg.load("cfg3f", "13")
    tokens, offsets, labels = cfg.sample(grammar, np.random.default_rng(0), 1, labels=True)
    ancestors, length = labels["ancestor"][:, 1:-1].T.astype(int), len(tokens)
    ends = labels["boundary"] <= np.array([2, 3])[:, None]
    nodes = nodes_of_predictions(grammar, ancestors, ends)
    assert set(nodes) == set(nodes_of_derivation(cfg.derive(grammar, tokens))) and not unary_links(grammar, nodes)
    ends[0, 0], ends[1, 0] = True, False
    broken = nodes_of_predictions(grammar, ancestors, ends)
    assert Node(2, 0, 1, nodes[1].symbol) in broken and any((n.level, n.start, n.stop) == (3, 0, 1) for n in broken)
    for level in (1, 2, 3):
        assert sum(n.stop - n.start for n in broken if n.level == level) == length
    assert sum(place == -1 for place in parents(broken)) == 1


def test_the_page_holds_the_truth_and_the_probes_are_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, data = page(runs, "--run", "abc", "--sentence", SENTENCE, "--probe-steps", 60)
    assert "page.html" in said and data["tokens"] == list(SENTENCE) and data["parses"] == "1" and data["run"] == "abc1"
    assert [layer["name"] for layer in data["layers"]] == ["embed", "block.0", "block.1"]
    assert all(layer["right"] > 0.8 and layer["score"] > 0.8 for layer in data["layers"])  # brackets can be counted
    assert len(data["attention"]) == 2 and len(data["attention"][0]) == 2
    arcs = np.array(data["attention"][1][1]).reshape(-1, 3)
    assert (arcs[:, 0] >= arcs[:, 1]).all() and arcs[:, 0].max() == 13  # <bos> is 0, and a decoder looks back
    assert arcs[arcs[:, 0] == 3, 2].sum() == pytest.approx(1000, abs=60)
    assert list((runs / "abc1/probes").glob("*.safetensors"))
    monkeypatch.setattr(TreeReader, "fit", lambda self: pytest.fail("fitted again"))
    again = page(runs, "--run", runs / "abc1", "--sentence", " ".join(SENTENCE), "--probe-steps", 60)[1]
    assert again == data
    drawn = [page(runs, "--run", "abc1", "--seed", seed, "--probe-steps", 60)[1] for seed in (1, 2)]
    assert drawn[0]["tokens"] != drawn[1]["tokens"] and all(one["truth"] and not one["learned"] for one in drawn)


def test_what_is_no_sentence_is_shown_without_a_true_tree(runs: Path) -> None:
    said, data = page(runs, "--run", "abc1", "--sentence", "(A+B))", "--probe-steps", 60)
    assert "no sentence of brackets" in said and data["truth"] == [] and data["parses"] == "0"
    assert all(layer["right"] is None and layer["nodes"] for layer in data["layers"])


def test_an_ambiguous_sentence_says_how_many_trees_it_has(runs: Path) -> None:
    words = ("--run", "amb", "--grammar", runs.parent / "amb.cfg", "--probe-steps", 2)
    data = page(runs, *words, "--sentence", "y y x")[1]
    assert data["parses"] == "1" and len(data["truth"]) > 1
    data = page(runs, *words, "--sentence", "x y y")[1]
    assert int(data["parses"]) > 1 and data["truth"][0]["stop"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "zzz"], "no run 'zzz' in .*; there are: abc1 abd amb"),
        (["--run", "ab"], "2 runs in .* begin with ab: abc1 abd; give more"),
        (["--run", "half"], "half.partial is not finished"),
        (["--run", "bare"], "has no model"),
        (["--run", "people"], "trained on BioS; only runs on a plain grammar"),
        (["--run", "cut"], "run.json is cut or altered"),
        (["--run", "foreign"], "the model has 9 tokens and brackets needs 13"),
        (["--run", "abd"], "from a file; give the file with --grammar"),
        (["--run", "abd", "--grammar", "cfg3f"], "was not trained on the grammar cfg3f"),
        (["--run", "abc1", "--sentence", "(A+Q)"], r"symbol 4 of the sentence, 'Q', is no terminal of brackets: \( \)"),
        (["--run", "abc1", "--sentence", "  "], "the sentence is empty"),
        (["--run", "abc1", "--sentence", "(" * 30], "30 symbols and no sentence of brackets has more than 29"),
        (["--run", "narrow", "--sentence", SENTENCE], "do not fit the model's context of 12"),
        (["--run", "abc1", "--probe-steps", "0"], "--probe-steps 0 trains"),
        (["--run", "abc1", "--seed", "-1"], "--seed -1 is below 0"),
        (["--run", "abc1", "--output", "."], r"cannot write \.: it is a folder"),
        (["--run", "abc1", "--output", "pyproject.toml/x.html"], "is no folder that one can write to"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(runs: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(["show", "--runs-dir", str(runs), *words])
    assert "\n" not in str(caught.value)


def test_a_folder_of_lm_train_will_do(runs: Path, tmp_path: Path) -> None:
    planted(tmp_path / "mine", Cfg("brackets"))
    (tmp_path / "mine/run.json").unlink()
    note = {"task": "brackets", "fields": {}, "key": Cfg("brackets").key, "data_seed": 3}
    (tmp_path / "mine/model/task.json").write_text(json.dumps(note))
    from probing.trained_runs import find_grammar_run

    assert (
        find_grammar_run("mine", tmp_path).task == Cfg("brackets")
        and find_grammar_run(str(tmp_path / "mine"), runs).data_seed == 3
    )
    own = runs.parent / "amb.cfg"
    note = {"task": "cfg", "fields": {"grammar": str(own)}, "key": Cfg(str(own)).key, "data_seed": 3}
    (tmp_path / "mine/model/task.json").write_text(json.dumps(note))
    assert find_grammar_run("mine", tmp_path, str(own)).task == Cfg(str(own))
    with pytest.raises(UserError, match="give the file with --grammar"):  # the file is not even looked for
        find_grammar_run("mine", tmp_path)
    with pytest.raises(UserError, match="was not trained on the grammar brackets"):
        find_grammar_run("mine", tmp_path, "brackets")
    (tmp_path / "mine/model/task.json").write_text(json.dumps(note | {"task": f"{tmp_path}/evil.py:Task"}))
    with pytest.raises(UserError, match="no grammar known by name"):  # the file is not even looked for
        find_grammar_run("mine", tmp_path)


def test_the_command_line(runs: Path) -> None:
    begin = time.perf_counter()
    code = (
        "import sys, probing.__main__ as m; sys.argv = ['probing', '--help']; m.main(); "
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    bad = subprocess.run([sys.executable, "-m", "probing", "show", "--run", "x"], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("error: no run 'x'") and bad.stderr.count("\n") == 1
    assert time.perf_counter() - begin < 8


def hostile_page(runs: Path) -> Path:
    words = ["--run", "abd", "--grammar", runs.parent / "abd.cfg", "--probe-steps", 2]
    data = page(runs, *words, "--sentence", " ".join(HOSTILE))[1]
    assert data["tokens"] == HOSTILE and data["truth"]
    return runs.parent / "page.html"


def test_hostile_terminals_stay_in_their_element(runs: Path) -> None:
    text = hostile_page(runs).read_text("utf-8")
    script = re.search(r'id="data">(.*?)</script>', text, re.S)[1]
    assert not set("<>&") & set(script) and script.isascii()
    assert text.count("<script") == text.count("</script>") == 2 and "example.org" not in text.replace(script, "")
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.skipif(not (browser.DRIVER and browser.CHROMIUM), reason="no chromium and chromedriver on this machine")
def test_a_browser_draws_it_and_nothing_gets_out(runs: Path, tmp_path: Path) -> None:
    plain = runs.parent / "plain.html"
    page(runs, "--run", "abc1", "--sentence", SENTENCE, "--probe-steps", 60)
    (runs.parent / "page.html").rename(plain)
    with browser.browser(tmp_path) as seen:
        seen.do("POST", "/url", url=plain.as_uri())
        count = "return document.querySelectorAll('{}').length"
        assert seen.script(count.format("#true .node")) == 3 and seen.script(count.format("#read .token")) == 13
        assert seen.script(count.format("#arcs .arc.all")) > 5
        seen.hover("#arcs .token[data-column='6']")
        assert seen.script(count.format("#arcs .arc.to")) > 2 and seen.script(count.format("#arcs .arc.all")) == 0
        assert "token 6" in seen.script("return document.getElementById('said').textContent")
        seen.script("document.querySelector('#arcs .token[tabindex=\"0\"]').focus()")
        seen.press("\ue014")  # the right arrow
        assert "token 2" in seen.script("return document.getElementById('said').textContent")
        seen.script("document.querySelector('#layers input').click()")
        assert "embedding" in seen.script("return document.getElementById('read-title').textContent")
        seen.script("document.querySelectorAll('#heads input')[3].click()")
        assert "layer 2, head 2" in seen.script("return document.getElementById('arcs-title').textContent")
        seen.do("POST", "/url", url=hostile_page(runs).as_uri())
        seen.hover("#arcs .token[data-column='2']")
        assert seen.script(count.format("#arcs .arc")) > 0 and seen.script(count.format("img, object, iframe")) == 0
        title = seen.script("return document.querySelector('#true .token title').textContent")
        assert title == f"token 1: {HOSTILE[0]}"
        assert not seen.dialog() and seen.complaints() == []
        asked = seen.requests()
        assert len(asked) == 2 and all(address.startswith("file:") for address in asked), asked
