"""The command line of synth: a newcomer's commands, the task of docs/add_a_task.md, and bad input."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synth import get_task
from synth.__main__ import main
from synth.commands.command_line import guarded
from synth.errors import UserError
from synth.registry import installed_tasks

CONTRACT = "tests/contracts/test_task_contract.py"
ROOT = Path(__file__).resolve().parents[2]


def run(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "synth", *args], capture_output=True, text=True, cwd=ROOT, **kwargs)


def test_help_is_fast_and_free_of_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "synth", "--help"]
    seconds = []
    for _ in range(3):
        start = os.times()
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        end = os.times()  # processor time: a loaded machine says nothing about the command
        seconds.append(end.children_user + end.children_system - start.children_user - start.children_system)
        assert done.returncode == 0 and "python -m synth show" in done.stdout
    assert not re.search(r"\| +(torch|numba|nltk|pandas|transformers)$", done.stderr, re.M)
    assert min(seconds) < 1


def test_show_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "cfg3f", "--root", "13", "--num-samples", "200"])
    text = capsys.readouterr().out
    for word in ("<bos>", "duplicates", "overlap", "length", "floors", "slice length"):
        assert word in text
    main(["show", "cfg", "--grammar", "cfg3b", "--num-samples", "50", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["documents"] == 50 and found["length"]["0"] >= 140


def test_a_task_from_a_file_is_shown_exported_and_scored(
    reverse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", "--task", reverse, "--length", "3", "--num-samples", "400"])
    shown = capsys.readouterr().out
    assert "fresh samples" in shown and "{'1':" in shown  # realised difficulty: how often each length occurs
    out = tmp_path / "data.jsonl"
    main(["export", reverse, "--num-samples", "300", "--split", "test", "--output", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 300 and json.loads((tmp_path / "data.jsonl.vocab.json").read_text())["="] == 6
    answers = [{"index": i, "tokens": r["tokens"][r["prompt_length"] :]} for i, r in enumerate(rows[:20])]
    answers[7]["tokens"] = answers[7]["tokens"][:-1]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    capsys.readouterr()
    main(["score", reverse, "--input", str(tmp_path / "said.jsonl")])
    scores = [json.loads(line)["accuracy"] for line in capsys.readouterr().out.splitlines()]
    assert scores == [float(i != 7) for i in range(20)]


def test_a_task_from_a_file_keeps_the_contract(reverse: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        CONTRACT,
        "--task",
        reverse,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("to", ["parquet", "jsonl", "txt"])
def test_exports_hold_the_same_documents(to: str, tmp_path: Path) -> None:
    out = tmp_path / f"x.{to}"
    main(["export", "cfg3f", "--root", "13", "--num-samples", "300", "--format", to, "--output", str(out), "--labels"])
    from synth import Corpus

    block = Corpus(get_task("cfg3f", root="13"), 0).documents(0, 300, labels=True)
    if to == "txt":
        texts = [[int(t) for t in line.split()] for line in out.read_text().splitlines()]
        assert all(np.array_equal(t, block[i].tokens[1:-1]) for i, t in enumerate(texts)) and len(texts) == 300
        return
    if to == "parquet":
        import pandas as pd

        rows = pd.read_parquet(out).to_dict("records")
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    for i, row in enumerate(rows):
        assert np.array_equal(row["tokens"], block[i].tokens)
        for name, values in block[i].labels.items():
            assert np.array_equal(np.stack(row[name]), values)


def test_score_of_a_grammar_in_detail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = [int(t) for t in "1 2 3".split()]
    grammar = tmp_path / "tiny.cfg"
    grammar.write_text("S -> A B | B A\nA -> '1' '2' | '3'\nB -> '3' | '1' '2'\n")
    file = tmp_path / "in.jsonl"
    lines = [{"tokens": truth}, {"tokens": ["<bos>", "1", "2", "3", "<eos>"]}, {"tokens": ["1", "3"]}, {"tokens": []}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(["score", "cfg", "--grammar", str(grammar), "--input", str(file), "--detail"])
    first, second, third, empty = map(json.loads, capsys.readouterr().out.splitlines())
    # S -> A B -> (1 2)(3) and S -> B A -> (1 2)(3): each 1/2 * 1/2 * 1/2
    assert first == second and first["valid"] is True and first["parses"] == 2
    assert first["log2_probability"] == pytest.approx(-2) and first["edits"] == 0
    assert np.allclose(first["next"], [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]])
    assert third["valid"] is False and third["parses"] == 0 and third["log2_probability"] is None
    assert third["edits"] == 1 and empty["edits"] is None
    assert third["next"][2] == [0, 0, 0, 0]


BAD = {
    "unknown command": (["shew", "cfg"], "did you mean show? choose list"),
    "no task": (["show"], "which task"),
    "unknown task": (["show", "cfg3ff"], "did you mean cfg3f"),
    "unknown grammar": (["show", "cfg", "--grammar", "cfg9"], "cfg9"),
    "unknown root": (["show", "cfg3f", "--root", "99"], "99"),
    "unknown flag": (["show", "cfg3f", "--rooot", "13"], "unknown argument --rooot; did you mean --root?"),
    "no such file": (["score", "cfg3f", "--input", "nowhere.jsonl"], "nowhere.jsonl"),
    "no such task file": (["show", "nowhere.py:Task"], "nowhere.py"),
    "not a number": (["show", "cfg3f", "--num-samples", "x"], "--num-samples"),
    "no file named": (["score", "cfg3f"], "--input"),
    "negative samples": (["show", "cfg3f", "--num-printed", "-1"], "--num-printed"),
    "list of something": (["list", "cfg"], "unknown argument cfg; see python -m synth list --help"),
    "another format": (["export", "cfg3f", "--format", "txt", "--output", "x.jsonl"], "--format jsonl"),
    "a file for a folder": (["export", "cfg3f", "--output", "README.md/x"], "cannot write"),
    "nothing to export": (["export", "cfg3f", "--num-samples", "0"], "at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case: str) -> None:
    args, word = BAD[case]
    done = run(*args)
    assert done.returncode == 2 and word in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


BAD_LINES = {
    "foreign id": ('{"tokens": [1, 9]}', "token 9 at position 1"),
    "foreign symbol": ('{"tokens": ["1", "x"]}', "token 'x' at position 1"),
    "mixed": ('{"tokens": ["1", 2]}', "position 1"),
    "negative": ('{"tokens": [-1]}', "position 0"),
    "huge": ('{"tokens": [99999999999999999999]}', "position 0"),
    "not json": ('{"tokens": [1', "line 2: not JSON"),
    "no tokens": ('{"words": "1 2"}', '"tokens", "completion" or "text"'),
    "two of them": ('{"tokens": [1], "text": "1"}', "one list or text"),
    "bad split": ('{"tokens": [1], "split": "dev"}', "train, valid, test"),
    "bad index": ('{"tokens": [1], "index": -1}', '"index"'),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_completions_name_the_line_and_leave_results_alone(case: str, tmp_path: Path) -> None:
    line, word = BAD_LINES[case]
    (tmp_path / "in.jsonl").write_text('{"tokens": [1, 2]}\n' + line + "\n")
    (tmp_path / "out.jsonl").write_text("earlier\n")
    done = run("score", "cfg3f", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    assert done.returncode == 2 and word in done.stderr and "line 2" in done.stderr
    assert done.stderr.count("\n") == 1 and (tmp_path / "out.jsonl").read_text() == "earlier\n"


def test_each_command_tells_its_options_without_a_task() -> None:
    done = run("export", "--help")
    assert done.returncode == 0 and "parquet,jsonl,txt" in done.stdout and not done.stderr


def test_a_line_without_its_document_is_named(reverse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"tokens": [1], "index": 0}\n{"tokens": [1]}\n')
    with pytest.raises(UserError, match='line 2: this task needs "index"'):
        main(["score", reverse, "--input", str(file)])
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no completions"):
        main(["score", reverse, "--input", str(file)])
    monkeypatch.setattr("sys.stdin", io.StringIO('{"tokens": [1], "index": 0}\n'))
    main(["score", reverse, "--input", "-"])


def test_bad_fields_of_a_task_are_one_line(reverse: str) -> None:
    with pytest.raises(UserError, match="length=0"):
        main(["show", reverse, "--length", "0"])


def test_exports_do_not_lose_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--root", "13"]):
        main(["export", "cfg3f", "--num-samples", "3", *more])
    assert (tmp_path / "cfg3f.jsonl").exists() and (tmp_path / "cfg3f-root13.jsonl").exists()
    with pytest.raises(UserError, match="--overwrite"):
        main(["export", "cfg3f", "--num-samples", "3"])
    main(["export", "cfg3f", "--num-samples", "4", "--overwrite"])
    assert len((tmp_path / "cfg3f.jsonl").read_text().splitlines()) == 4


def test_a_grammar_of_your_own_is_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.cfg").write_text("S -> 'a' | 'b'")
    main(["show", "cfg", "--grammar", f"{tmp_path}/mine.cfg", "--num-samples", "5", "--num-printed", "0"])
    assert "mine.cfg" in re.search("^source: .*$", capsys.readouterr().out, re.M)[0]  # type: ignore[index]


@pytest.mark.parametrize("decorator", ["", "@dataclass\n"])
def test_a_task_that_is_no_frozen_dataclass_is_refused(decorator: str, reverse: str) -> None:
    path = Path(reverse.partition(":")[0])
    path.write_text(path.read_text().replace("@dataclass(frozen=True)\n", decorator))
    with pytest.raises(UserError, match="frozen"):
        main(["show", reverse])
    if not decorator:

        class Bare(type(get_task("cfg3f"))):  # type: ignore[misc]
            extra: int = 0

        with pytest.raises(UserError, match="Bare"):
            _ = Bare().key


def test_an_unknown_task_of_the_contract_test_is_one_line() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        CONTRACT,
        "--task",
        "no.py:X",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4 and "ERROR: no file no.py" in done.stderr and "Traceback" not in done.stdout


@pytest.mark.parametrize("command", [["synth", "list"], ["probing", "plan", "--people", "50"], ["experiments", "list"]])
def test_an_output_that_is_full_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", *command], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: the output: No space left on device; ")


def test_interrupted_commands_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted, "run it again") == 130
    assert capsys.readouterr().err.strip() == "stopped; run it again"


def test_errors_of_the_system_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("")
    assert guarded(lambda: print((tmp_path / "a/b").read_text()), "") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/a/b: Not a directory; ") and err.count("\n") == 1


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth.commands import export

    out = tmp_path / "x.jsonl"
    out.write_text("earlier\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "to_rows", full)
    with pytest.raises(UserError, match="No space left"):
        export.export(get_task("cfg3f", root="13"), 10, "jsonl", out)
    assert out.read_text() == "earlier\n" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", sorted(installed_tasks()))
def test_padding_after_the_end_does_not_count(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synth import Corpus

    corpus = Corpus(get_task(name), 0, "test")
    document, vocab = corpus.documents(0, 1)[0], corpus.vocab
    answer = document.tokens[document.prompt_length :].tolist()
    plain = [token for token in answer if token != vocab.eos]
    endings = [answer, [*plain, vocab.eos], [*plain, vocab.eos, vocab.pad, vocab.pad], [*plain, *[vocab.eos] * 3]]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"tokens": tokens, "index": 0}) + "\n" for tokens in endings))
    main(["score", name, "--input", str(file)])
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(scores) == 4 and all(score == scores[0] for score in scores), scores


@pytest.mark.parametrize("name", ["copy", "depo", "mano", "cfg3f"])
def test_a_padded_whole_document_is_right(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synth import Corpus

    corpus = Corpus(get_task(name), 0)
    tokens = corpus.documents(0, 1)[0].tokens.tolist()
    rows = [{"tokens": tokens}, {"tokens": [*tokens, corpus.vocab.eos, corpus.vocab.pad]}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["score", name, "--input", str(tmp_path / "in.jsonl")])
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert scores[0] == scores[1] and set(scores[0].values()) == {1.0}


@pytest.mark.parametrize("name", ["mano", "bioS-qa"])
def test_what_was_exported_is_right_and_knows_where_it_is_from(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.jsonl"
    main(["export", name, "--num-samples", "5", "--seed", "3", "--output", str(out)])
    capsys.readouterr()
    main(["score", name, "--input", str(out)])  # train and seed 3, as the lines say; without them test and seed 0
    said = capsys.readouterr()
    assert [set(json.loads(line).values()) - {0, 1, 2, 3, 4} for line in said.out.splitlines()] == [set()] * 5
    assert all(1.0 in list(json.loads(line).values())[1:] for line in said.out.splitlines())
    assert said.err.strip().startswith("5 completions: ") and said.err.strip().endswith(" 1")
    with pytest.raises(UserError, match="line 1: is of split train and not test; leave --split out"):
        main(["score", name, "--input", str(out), "--split", "test"])
    row = json.loads(out.read_text().splitlines()[0])
    out.write_text(json.dumps({**row, "seed": 4}) + "\n")
    with pytest.raises(UserError, match="begins otherwise than document 0 of split train, seed 4"):
        main(["score", name, "--input", str(out)])


def test_completions_may_be_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(
        '\ufeff{"text": "( A + B ) <eos> <pad>"}\n{"completion": "( A + B )"}\n{"tokens": ["("], "note": "\u2028"}\n'
    )
    main(["score", "brackets", "--input", str(file)])
    assert [json.loads(line)["valid"] for line in capsys.readouterr().out.splitlines()] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("first", "later", "kept"),
    [(1, 0.5, [1.0, 0.5]), (None, 2, [None, 2]), (3, "x", ["3", "x"]), (0.5, None, [0.5, None])],
)
def test_a_column_may_change_its_type(first: object, later: object, kept: list[object], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from synth.commands.export import _write_parquet

    out = tmp_path / "x.parquet"
    _write_parquet(iter([[{"a": first, "b": [1]}], [{"a": later, "b": [2, 3]}], [{"a": first, "b": []}]]), out)
    assert pq.read_table(out).to_pydict() == {"a": [*kept, kept[0]], "b": [[1], [2, 3], []]}
    assert list(tmp_path.iterdir()) == [out]


def test_ambiguity_and_memorised_sentences_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two places, each an X or a Y, and each of these an "a" in half of the cases: then both may have written it."""
    grammar = tmp_path / "tiny.cfg"
    grammar.write_text("S -> A B\nA -> X | Y\nB -> X | Y\nX -> 'a' | 'b'\nY -> 'a' | 'c'\n")
    main(["show", "cfg", "--grammar", str(grammar), "--num-samples", "3000", "--json"])
    found = json.loads(capsys.readouterr().out)["statistics"]
    assert found["several parses"] == pytest.approx(1 - 1 / 4, abs=0.03)
    assert found["mean parses"] == pytest.approx((0.5 * 2 + 0.5) ** 2, abs=0.05)
    assert found["among 10,000 drawn"] == pytest.approx(1, abs=1e-6)
    main(["show", "cfg3b", "--num-samples", "50", "--json"])
    assert json.loads(capsys.readouterr().out)["statistics"]["among 1,000,000 drawn"] < 1e-6
    main(["show", "cfg-perturbed", "--num-samples", "50", "--json"])
    assert json.loads(capsys.readouterr().out)["statistics"] == {}


def test_the_last_resort_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise MemoryError("Unable to allocate 7 TiB")

    assert guarded(full, "") == 2
    assert capsys.readouterr().err == (
        "error: out of memory (Unable to allocate 7 TiB); take a smaller model, batch or number of samples\n"
    )

    def fail() -> None:
        raise UserError("no grammar “Ünï”")

    for stream, said in ((io.TextIOWrapper(io.BytesIO(), "ascii"), "no grammar"), (None, None)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert guarded(fail, "") == 2
        if stream is not None:
            stream.flush()
            assert said in stream.buffer.getvalue().decode() and "\\u201c" in stream.buffer.getvalue().decode()


def test_labels_do_not_hide_what_finds_a_document_again(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    main(["export", "bioS-qa", "--num-samples", "2", "--labels", "--output", str(out)])
    row = json.loads(out.read_text().splitlines()[0])
    assert isinstance(row["attribute"], str) and isinstance(row["label_attribute"], list) and row["split"] == "train"
