"""Readers of files against what nobody would write: each returns, or says in one line what is wrong, within seconds."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import BITS, DEEP, JUNK, bent, reads, shared, spoiled, tries
from hypothesis import given
from hypothesis import strategies as st

from lm.config import ModelConfig
from lm.model import build
from lm.pretrained import load, save
from lm.training.checkpoint import read_checkpoint, write_checkpoint
from synth import cfg
from synth.atomic_io import content_digest
from synth.cfg import bundled
from synth.errors import UserError
from tests.security.test_security_files import redigested, written

# ---- grammars --------------------------------------------------------------------------------------------------
TEXTS = [b"S -> A B | B A\nA -> 'a' | 'a' 'b'\nB -> 'b' [1]\n", *(
    (bundled.FOLDER / f"{name}.cfg").read_bytes() for name in ("brackets", "cfg3b", "cfg3k")
)]  # fmt: skip
NOTATION = st.sampled_from(
    [b"S", b"A", b"B", b"'a'", b'"b"', b"->", b"|", b"[0.5]", b"[nan]", b"[1e999]", b"\n", b"\\\n", b"#", b"%start A"]
)
RULES = st.lists(NOTATION, max_size=30).map(b" ".join)


def grammar(content: bytes, suffix: str, folder: Path) -> None:
    path = folder / f"x{suffix}"
    path.write_bytes(content)
    found = cfg.load(path)
    assert found.compiled and found.min_length and found.to_text()


@tries(400)
@given(st.one_of(*map(spoiled, TEXTS), RULES, st.builds(spoiled, RULES, st.just(NOTATION)).flatmap(lambda s: s)))
def test_grammars_in_notation(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    reads("grammar text", content, lambda: grammar(content, ".cfg", shared(tmp_path_factory)))


def release(name: str) -> dict[str, Any]:
    """A grammar as the public release has it."""
    found = cfg.load(name)
    place = [{symbol: i for i, symbol in enumerate(level)} for level in found.levels]
    nodes = [
        [
            {"children": [[place[level + 1][child] for child in rhs] for rhs in found.rules[symbol]]}
            for symbol in symbols
        ]
        for level, symbols in enumerate(found.levels[:-1])
    ]
    numbers = iter(range(1, 1000))
    return {
        "sizes": list(map(len, found.levels)),
        "idx": [[next(numbers) for _ in s] for s in found.levels],
        "all": nodes,
    }


@tries(300)
@given(st.one_of(bent(release("brackets")), JUNK).map(json.dumps) | st.sampled_from(DEEP))
def test_grammars_in_json(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    reads("grammar json", text, lambda: grammar(text.encode(), ".json", shared(tmp_path_factory)))


LARGE = {
    "a million rules": "S -> A\n" + "A -> 'a'\n" * 1_000_000,
    "a million other rules": "S -> A\nA -> " + " | ".join(f"'{i}'" for i in range(1_000_000)),
    "a hundred thousand symbols": "".join(f"A{i} -> A{i + 1}\n" for i in range(100_000)) + "A100000 -> 'a'",
    "a long cycle": "".join(f"A{i} -> A{i + 1}\n" for i in range(20_000)) + "A20000 -> A0",
    "left recursion": "S -> S A | A\nA -> 'a'",
    "cycles everywhere": "\n".join(f"A{i} -> " + " | ".join(f"A{j}" for j in range(300)) for i in range(300)),
    "many that nothing reaches": "S -> 'a'\n" + "".join(f"B{i} -> B{i + 1}\n" for i in range(30_000)) + "B30000 -> 'b'",
    "doubled 126 times": "".join(f"A{i} -> A{i + 1} A{i + 1}\n" for i in range(125)) + "A125 -> 'a' 'a'",
    "a line of ten million letters": "S -> " + "a" * 10_000_000,
    "a million terminals in a rule": "S -> " + "'a' " * 1_000_000,
    "joined lines": "S -> \\\n" * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_and_endless_grammars(name: str, tmp_path: Path) -> None:
    reads("grammar, large", name, lambda: grammar(LARGE[name].encode(), ".cfg", tmp_path))


def test_sentences_too_long_to_draw(tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_text(LARGE["doubled 126 times"])
    with pytest.raises(UserError, match="more than 1,000,000 symbols; choose a lower root"):
        cfg.sample(cfg.load(tmp_path / "x.cfg"), np.random.default_rng(0), 1)


# ---- tables ----------------------------------------------------------------------------------------------------
def table(content: bytes, folder: Path) -> None:
    from experiments.harness.reporting.table import read_table

    path = folder / "table.csv"
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  table.csv\n")
    read_table(path)


@pytest.fixture(scope="module")
def real_table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("table") / "table.csv", ["a", "b", "12", ""]).read_bytes()


CELLS = st.sampled_from(
    [b'"', b'""', b",", b"\r", b"\n", b"nan", b"1e999", b"9" * 400, b"run", b"\0", b"\xef\xbb\xbf", b"1_0"]
)


@tries(300)
@given(st.data())
def test_tables(tmp_path_factory: pytest.TempPathFactory, real_table: bytes, data: st.DataObject) -> None:
    content = data.draw(spoiled(real_table, CELLS | BITS))
    reads("table", content, lambda: table(content, shared(tmp_path_factory)))


@pytest.mark.parametrize(
    ("columns", "rows", "cell"),
    [(100_000, 3, "1"), (100_000, 3, "a"), (1, 200_000, "1"), (10, 3, "a" * 5_000_000), (10, 3, "9" * 100_000)],
)
def test_wide_and_long_tables(columns: int, rows: int, cell: str, tmp_path: Path) -> None:
    head = written(tmp_path / "table.csv", ["a"]).read_text().splitlines()
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*head[0].split(","), *(f"c{i}" for i in range(columns))])
    for row in range(rows):
        lines.writerow([f"r{row}", *head[1].split(",")[1:], *[cell] * columns])
    reads("table, large", (columns, rows, cell[:9]), lambda: table(text.getvalue().encode(), tmp_path))


# ---- models and checkpoints ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small one."""
    folder = tmp_path_factory.mktemp("model")
    save(build(ModelConfig(1, 2, 8, max_seq_len=16, n_experts=2, mlp="swiglu", canon="AC"), 7, 0), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    import torch

    folder = tmp_path_factory.mktemp("checkpoint")
    state = {"identity": {"task": "x"}, "step": 3, "rows": [{"loss": 0.5}], "counts": {"tokens": 3}}
    write_checkpoint(folder, 3, {"model.a": torch.arange(6.0).view(2, 3), "optimizer.0.step": torch.ones(())}, state)
    return {path.name: path.read_bytes() for path in (folder / "step-3").iterdir()}


@st.composite
def spoiled_tensors(draw: Any, whole: bytes) -> bytes:
    """A file of tensors whose header says something else: its length, names, types, shapes or places."""
    length = int.from_bytes(whole[:8], "little")
    header, body = whole[8 : 8 + length], whole[8 + length :]
    if draw(st.booleans()):
        header = json.dumps(draw(bent(json.loads(header)))).encode()
    else:
        header = draw(spoiled(header))
    size = draw(st.sampled_from([len(header)] * 6 + [0, 1, 2**31, 2**63, 2**64 - 1, 100_000_000]))
    return size.to_bytes(8, "little") + header + (body if draw(st.booleans()) else draw(spoiled(body)))


@st.composite
def spoiled_files(draw: Any, files: dict[str, bytes]) -> dict[str, bytes]:
    found = dict(files)
    name = draw(st.sampled_from(sorted(found)))
    if name.endswith(".safetensors"):
        found[name] = draw(st.one_of(spoiled_tensors(found[name]), spoiled(found[name])))
    elif draw(st.integers(0, 3)):
        found[name] = json.dumps(draw(bent(json.loads(found[name])))).encode()
    else:
        found[name] = draw(st.one_of(spoiled(found[name]), st.sampled_from([text.encode() for text in DEEP])))
    return found


def put(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@tries(300)
@given(st.data(), st.booleans())
def test_models(
    tmp_path_factory: pytest.TempPathFactory, model: dict[str, bytes], data: st.DataObject, whole: bool
) -> None:
    files, folder = data.draw(spoiled_files(model)), shared(tmp_path_factory) / "model"
    put(files, folder)
    if whole:  # who alters it knows how to write its digests
        try:
            redigested(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
    changed = {name: content[:200] for name, content in files.items() if content != model[name]}
    reads("model", changed, lambda: load(folder))


@tries(300)
@given(st.data(), st.booleans())
def test_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: dict[str, bytes], data: st.DataObject, whole: bool
) -> None:
    files, folder = data.draw(spoiled_files(checkpoint)), shared(tmp_path_factory) / "step-3"
    if whole and files["state.json"] == checkpoint["state.json"]:
        outer = json.loads(files["state.json"])
        outer["state"] = json.dumps(data.draw(bent(json.loads(outer["state"]))))
        digests = {"tensors.safetensors": files["tensors.safetensors"], "state.json": outer["state"].encode()}
        outer["digests"] = {name: content_digest(content) for name, content in digests.items()}
        files["state.json"] = json.dumps(outer).encode()
    put(files, folder)
    changed = {name: content[:200] for name, content in files.items() if content != checkpoint[name]}
    reads("checkpoint", changed, lambda: read_checkpoint(folder))


# ---- other files -----------------------------------------------------------------------------------------------
RECORD = {
    "run": {
        "class": "Run", "seeds": {"data": 0, "init": 0, "order": 0},
        "task": {"class": "Mixture", "shares": [0.5, 0.5], "parts": [
            {"class": "BioS", "people": 4, "version": 1}, {"class": "BioQuestions", "people": 4}]},
    }
}  # fmt: skip
PLAIN = {"run": {"seeds": {"data": 0}, "task": {"class": "Cfg", "grammar": "brackets", "root": None}}}


@tries(200)
@given(st.one_of(bent(RECORD), bent(PLAIN)).map(json.dumps) | st.sampled_from(DEEP))
def test_records_of_runs(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    from probing.trained_runs import find_grammar_run, find_people_run

    folder = shared(tmp_path_factory) / "runs/abc"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}\n" + text)
    reads("record, people", text, lambda: find_people_run("abc", folder.parent))
    reads("record, grammar", text, lambda: find_grammar_run("abc", folder.parent))


@tries(200)
@given(st.text(max_size=40) | st.sampled_from(["../x", "/", "..", "\0", "x" * 5000, "a/" * 5000, "abc/..", "~", "*"]))
def test_ids_of_runs(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    from probing.trained_runs import find_grammar_run

    runs = shared(tmp_path_factory) / "ids"
    (runs / "abc/model").mkdir(parents=True, exist_ok=True)
    (runs / "abc/run.json").write_text("{}\n" + json.dumps(PLAIN))
    reads("id", name, lambda: find_grammar_run(name, runs))


COMPLETIONS = [{"tokens": ["(", "A", ")"]}, {"tokens": [0, 1, 2], "index": 3}]
LINES = st.one_of(bent(COMPLETIONS[0]), bent(COMPLETIONS[1]), JUNK).map(json.dumps) | st.sampled_from(DEEP)


@tries(200)
@given(st.lists(LINES, max_size=3).map("\n".join).map(str.encode) | st.binary(max_size=30))
def test_completions(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    from synth.commands.scoring import read_completions
    from synth.registry import get_task

    path = shared(tmp_path_factory) / "completions.jsonl"
    path.write_bytes(content)
    reads("completions", content, lambda: read_completions(get_task("brackets"), path))


FACTS = {
    ".csv": b"name,born,works at\nAnn Bee,1990,A B\nCid Dee,1991,\nEd Eff,1990,C\n",
    ".tsv": b"name\tborn\nAnn\t1990\nBob\t1991\n",
    ".jsonl": b'["Ann", "born", 1990]\n["Bob", "born", "1991"]\n',
}


@tries(200)
@given(st.data())
def test_facts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from probing.capacity.planner import read_fact_set

    suffix = data.draw(st.sampled_from(sorted(FACTS)))
    content = data.draw(spoiled(FACTS[suffix]) | st.sampled_from([text.encode() for text in DEEP]))
    path = shared(tmp_path_factory) / f"facts{suffix}"
    path.write_bytes(content)
    reads("facts", (suffix, content), lambda: read_fact_set(path))


@tries(100)
@given(st.data())
def test_pools_prose_and_tokenizers(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from synth.bio import codec, prose_grammar, value_lists

    folder = shared(tmp_path_factory) / "pools"
    folder.mkdir(exist_ok=True)
    files = {path.name: path.read_bytes() for path in value_lists.FOLDER.iterdir() if path.suffix in (".txt", ".cfg")}
    name = data.draw(st.sampled_from(sorted(files)))
    put(files | {name: data.draw(spoiled(files[name]))}, folder)
    tokenizer = data.draw(bent({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for reader in (value_lists.load_value_lists, prose_grammar.load_prose_grammar):
        getattr(reader, "cache_clear", lambda: None)()
        reads(f"{reader.__module__}", name, lambda reader=reader: reader(str(folder)))
    reads("tokenizer", tokenizer, lambda: codec.load_tokenizer(str(folder)))
