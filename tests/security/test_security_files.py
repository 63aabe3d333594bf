"""Hostile files in place of ours: nothing in them runs, leads elsewhere, or breaks what it is shown in."""

import csv
import hashlib
import io
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.pretrained import load, save
from lm.training.checkpoint import read_checkpoint
from synth.atomic_io import content_digest
from synth.errors import UserError
from synth.registry import get_task
from synth.tasks.cfg import Cfg
from tests.probing.tree_view.test_tree_view import planted as finished_run

CODE = "from pathlib import Path\nPath({marker!r}).touch()\n"


class Bomb:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mknod, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that any planted code makes."""
    return tmp_path / "owned"


@pytest.fixture
def bomb(marker: Path) -> bytes:
    import pickle

    data = pickle.dumps(Bomb(marker))
    pickle.loads(data)
    assert marker.exists()  # it works
    marker.unlink()
    return data


def refused(work: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        work()
    assert "\n" not in str(caught.value)


# ---- pickles and other files in place of ours -------------------------------------------------------------------
@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(build(ModelConfig(1, 2, 8, max_seq_len=16), 13, 0), tmp_path / "model")
    return tmp_path / "model"


def redigested(folder: Path) -> None:
    """Digests of the files as they now are, as who plants them would write them."""
    reference = json.loads((folder / "reference.json").read_text())
    reference["digests"] = {name: content_digest((folder / name).read_bytes()) for name in reference["digests"]}
    (folder / "reference.json").write_text(json.dumps(reference))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "reference.json"])
def test_a_pickle_in_place_of_a_file_of_a_model(name: str, model: Path, bomb: bytes, marker: Path) -> None:
    (model / name).write_bytes(bomb)
    refused(lambda: load(model), "cut or altered")
    if name != "reference.json":
        redigested(model)
        refused(lambda: load(model), "cut or altered")
    assert not marker.exists()


def test_pickles_beside_a_model_and_code_in_its_configuration(model: Path, bomb: bytes, marker: Path) -> None:
    import transformers

    import lm.hf  # noqa: F401

    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        (model / name).write_bytes(bomb)
    for module in ("configuration_evil.py", "modeling_evil.py"):
        (model / module).write_text(CODE.format(marker=str(marker)))
    config = json.loads((model / "config.json").read_text())
    classes = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    (model / "config.json").write_text(json.dumps({**config, "auto_map": classes, "trust_remote_code": True}))
    redigested(model)
    assert load(model).vocab_size == 13
    assert transformers.AutoModelForCausalLM.from_pretrained(model).decoder.vocab_size == 13
    assert not marker.exists()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_pickle_in_place_of_a_checkpoint(name: str, tmp_path: Path, bomb: bytes, marker: Path) -> None:
    from lm.training.loop import train

    config = TrainConfig(steps=2, batch_size=2, seq_len=16)
    net = build(ModelConfig(1, 2, 8, max_seq_len=16), 13, 0)
    train(net, get_task("brackets"), config, 0, 0, tmp_path / "run", checkpoint_every=1)
    (path,) = (tmp_path / "run").glob("step-*")
    (path / name).write_bytes(bomb)
    if name == "tensors.safetensors":
        state = json.loads((path / "state.json").read_text())
        state["digests"][name] = content_digest(bomb)
        (path / "state.json").write_text(json.dumps(state))
    refused(lambda: read_checkpoint(path), "missing, cut or altered")
    again = build(ModelConfig(1, 2, 8, max_seq_len=16), 13, 0)
    refused(lambda: train(again, get_task("brackets"), config, 0, 0, tmp_path / "run"), "missing, cut or altered")
    assert not marker.exists()


def test_a_pickle_in_place_of_results_histories_and_probes(
    tmp_path: Path, model: Path, bomb: bytes, marker: Path
) -> None:
    from experiments.harness.atomic_io import read_json
    from experiments.harness.execution.model_cache import load_cached_or_none
    from probing.tree_view.tree_reader import FitConfig, TreeReader

    (tmp_path / "rows.json").write_bytes(bomb)
    refused(lambda: read_json(tmp_path / "rows.json"), "delete the folder")
    (tmp_path / "history.json").write_bytes(bomb)
    assert load_cached_or_none(tmp_path) is None
    for strange in ("5", "[5]", '{"rows": 1}', '[{"rows": 0, "diverged": {}}]', "[" * 10_000):
        head = {"checksum": hashlib.blake2b(strange.encode(), digest_size=8).hexdigest()}
        (tmp_path / "history.json").write_text(f"{json.dumps(head)}\n{strange}\n")
        found = load_cached_or_none(tmp_path)
        assert found is None or found.model is None or strange == '{"rows": 1}'
    (tmp_path / "probes").write_bytes(bomb)
    assert not TreeReader(load(model), Cfg("brackets"), 0, FitConfig(updates=1)).load(tmp_path / "probes")
    assert not marker.exists()


def test_a_pickle_in_place_of_texts(tmp_path: Path, bomb: bytes, marker: Path) -> None:
    """Grammars, pools of names, prose, tokenizers, facts, completions, transcripts."""
    from probing.capacity.planner import read_fact_set
    from probing.world_facts.response_log import ResponseLog
    from synth import cfg
    from synth.bio import codec, prose_grammar, value_lists
    from synth.commands.scoring import read_completions

    for suffix in (".cfg", ".json", ".csv", ".jsonl", ".txt"):
        (tmp_path / f"x{suffix}").write_bytes(bomb)
    for name in ("first.txt", "prose.cfg", "tokenizer.json"):
        (tmp_path / name).write_bytes(bomb)
    refused(lambda: cfg.load(tmp_path / "x.cfg"), "cannot read the grammar file|line 1")
    refused(lambda: cfg.load(tmp_path / "x.json"), "cannot read the grammar file|not JSON")
    refused(lambda: value_lists.load_value_lists(str(tmp_path)), "cannot read the pool")
    refused(lambda: prose_grammar.load_prose_grammar(str(tmp_path)), "cannot read the grammar")
    refused(lambda: codec.load_tokenizer(str(tmp_path)), "cannot read the tokenizer")
    refused(lambda: read_fact_set(tmp_path / "x.csv"), "cannot read facts|holds no facts")
    refused(lambda: read_fact_set(tmp_path / "x.jsonl"), "cannot read facts")
    refused(lambda: read_completions(get_task("brackets"), tmp_path / "x.jsonl"), "cannot read|not JSON")
    refused(lambda: ResponseLog(tmp_path / "x.txt", {}), "is no file of answers")
    assert not marker.exists()


# ---- tables and what is made of them -----------------------------------------------------------------------------
FORMULAS = ["=cmd|'/c calc'!A0", '@SUM(1+1)*cmd|"x"!A0', "+1+1", "-2+3", '=HYPERLINK("http://example.org")']
HOSTILE = ["</text><script>alert(1)</script>", "a | b \\| c \\", "$\\undefined{$", "]]><!-- -->", "x\n\n# y", *FORMULAS]


def written(path: Path, labels: list[str]) -> Path:
    """A table of runs with these labels, and its checksum."""
    base = {"parameters": 1, "tokens": 5, "steps": 2, "train_loss": 0.5, "git_commit": "1", "device": "x", "seconds": 1}
    rows = [
        {"run": f"r{i}", "experiment": "01", "scale": "smoke", "kind": label, "score": i, **base}
        for i, label in enumerate(labels)
    ]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    said = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    path.with_suffix(".sha256").write_text(said)
    return path


def test_a_pickle_in_place_of_a_table(tmp_path: Path, bomb: bytes, marker: Path) -> None:
    from experiments.harness.reporting.table import read_table

    path = written(tmp_path / "table.csv", ["a"])
    path.write_bytes(bomb)
    refused(lambda: read_table(path), "was cut short or edited")
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(bomb).hexdigest()}  table.csv\n")
    refused(lambda: read_table(path), "is not UTF-8|is no table")
    assert not marker.exists()


def test_labels_of_a_table_stay_texts(tmp_path: Path) -> None:
    from experiments.harness.reporting import figures
    from experiments.harness.reporting.table import read_table

    table = read_table(written(tmp_path / "table.csv", HOSTILE))
    assert list(table["kind"]) == HOSTILE  # formulas too are letters here
    table = table[table["kind"] != "$\\undefined{$"]  # what is no mathematics is refused in one line, see study.draw
    with figures.style():
        figure, (axes,) = figures.subplots()
        figures.plot_means_with_ci(axes, table, "kind", "score")
        figures.set_title(figure, " ".join(table["kind"]))
        paths = figures.save(figure, tmp_path)
    tags = {node.tag.rpartition("}")[2] for node in ElementTree.parse(paths[1]).iter()}
    assert not {"script", "foreignObject", "a", "image"} & tags


def test_labels_of_a_table_do_not_break_the_ledger() -> None:
    from experiments.harness.reporting.claims import Claim
    from experiments.harness.reporting.ledger import LINES_TABLE, _line_row, _markdown_table

    def line_of(label: str) -> str:
        return _markdown_table(LINES_TABLE, [_line_row(Claim("1.1", label, gate=label, note=label))])[2]

    plain = line_of("label")
    for label in HOSTILE:
        line = line_of(label)
        bars = re.sub(r"\\.", "", line)  # as a reader of Markdown takes them: what follows a backslash is a letter
        assert bars.count("|") == plain.count("|") and "\n" not in line and "\r" not in line
        assert not re.search(r"<[A-Za-z/!?]", line)


# ---- places that a name leads to --------------------------------------------------------------------------------
def test_ids_of_runs_do_not_lead_out_of_their_folder(tmp_path: Path) -> None:

    from probing.trained_runs import find_grammar_run

    runs = tmp_path / "runs"
    finished_run(runs / "abc", Cfg("brackets"))
    outside = finished_run(tmp_path / "outside", Cfg("brackets"))
    assert find_grammar_run("abc", runs).folder == runs / "abc"
    (runs / "link").symlink_to(outside)
    refused(lambda: find_grammar_run("link", runs), "is a link out of")
    refused(lambda: find_grammar_run("li", runs), "is a link out of")
    for part in ("model", "probes"):
        inner = finished_run(runs / f"with_{part}", Cfg("brackets"))
        if (inner / part).exists():
            (inner / part).rename(inner / "old")
        (inner / part).symlink_to(outside / "model")
        refused(lambda inner=inner: find_grammar_run(inner.name, runs), "is a link out of")
    for name in (
        "../outsid",
        "..",
        "a\0b",
        "x" * 5000,
        "../" * 2000,
        "",
        ".",
        "/",
        "\udc80",
        "*",
        "abc/../../outside/no",
    ):
        refused(lambda name=name: find_grammar_run(name, runs), "no run|has no model")
    (tmp_path / "linked").symlink_to(runs)  # the folder of all runs may well be a link
    assert find_grammar_run("abc", tmp_path / "linked").folder.name == "abc"
    assert find_grammar_run(str(outside), runs).folder == outside  # a folder that the user names is his own to name


def test_names_in_a_record_are_never_paths(tmp_path: Path) -> None:

    from probing.trained_runs import find_grammar_run

    grammar = tmp_path / "planted.cfg"
    grammar.write_text("S -> 'a'")
    run = finished_run(tmp_path / "runs/abc", Cfg("brackets"))
    for name in (str(grammar), "../planted.cfg", "/etc/passwd", "\0"):
        record = {"run": {"task": {"class": "Cfg", "grammar": name}, "seeds": {"data": 0}}}
        (run / "run.json").write_text("{}\n" + json.dumps(record))
        refused(lambda: find_grammar_run("abc", tmp_path / "runs"), "from a file; give the file with --grammar")


# ---- the address of a model --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1/v1", "http://127.0.0.1/v1?key=hunter2", "https://127.0.0.1/v1#hunter2",
        "http://me:hunter2@127.0.0.1:80x/v1", "me:hunter2@h:80/v1", "http://me:hun[ter2@h/v1",
        "http://h:80x/v1?key=hunter2",
    ],
)  # fmt: skip
def test_an_address_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    from probing.world_facts.openai_backend import OpenAIBackend

    refused(lambda: OpenAIBackend(url, "m"), "^(?!.*(hunter2|ter2)).*the bare address, .*and a key in OPENAI_API_KEY")


def test_an_address_is_of_the_web_only() -> None:
    from probing.world_facts.openai_backend import OpenAIBackend

    for url in ("file:///etc/passwd", "ftp://x/y", "data:,x", "http://x:port/", "http://x:99999/", "javascript:1"):
        refused(lambda url=url: OpenAIBackend(url, "m"), "is no address")


def test_torch_loads_nothing_here(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not through a library either."""
    import transformers

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load"))
    load(model)
    transformers.AutoModelForCausalLM.from_pretrained(model)
