"""Tables keep their types, their digits and their order."""

import hashlib

import numpy as np
import pytest

from experiments.harness.reporting.table import read_table, to_table, write_table
from synth import UserError

BASE = {"parameters": 10, "tokens": 5, "steps": 2, "train_loss": 0.5, "git_commit": "1234567", "device": "x"}
BASE["seconds"] = 1


def results():
    first = {"run": "12345e678901", "experiment": "01", "kind": "None", "seed_data": 0, "score": 0.1 + 0.2, **BASE}
    second = {"run": "000000000012", "experiment": "01", "kind": "NA", "seed_data": 1, "exact": 7, **BASE}
    return [[first], [second, {**second, "exact": 8}]]


def test_a_table_comes_back_as_it_was(tmp_path):
    table = to_table(results(), "laptop")
    assert list(table.columns) == ["run", "experiment", "scale", "kind", "seed_data", "score", "exact", "step", *BASE]
    write_table(table, tmp_path / "table.csv")
    again = read_table(tmp_path / "table.csv")
    assert list(again.run) == ["12345e678901", "000000000012", "000000000012"]
    assert list(again.kind) == ["None", "NA", "NA"]
    assert list(again.git_commit) == ["1234567"] * 3
    assert again.score[0] == 0.1 + 0.2 and np.isnan(again.score[1])
    write_table(again, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


@pytest.fixture
def path(tmp_path):
    write_table(to_table(results(), "laptop"), tmp_path / "table.csv")
    return tmp_path / "table.csv"


def refused(path, message):
    """The table is not read, and the one line names it and the mend."""
    with pytest.raises(UserError, match=message) as error:
        read_table(path)
    said = str(error.value)
    assert said.startswith(f"{path} ") and f"git checkout -- {path} {path.with_suffix('.sha256')}" in said
    assert "\n" not in said


def test_an_altered_table_is_not_read(path):
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    changed = [whole[:-cut] for cut in (1, 20, len(whole) // 2, len(whole))]
    changed += ["".join(lines[:-1]), whole + lines[-1], whole.replace("laptop", "gpu"), whole + "<<<<<<< HEAD\n"]
    for text in changed:
        path.write_text(text)
        refused(path, "was cut short or edited")
    path.write_text(whole)
    assert len(read_table(path)) == 3
    path.with_suffix(".sha256").unlink()
    refused(path, "lacks its checksum table.sha256")
    path.unlink()
    with pytest.raises(UserError, match="no table"):
        read_table(path)


def test_the_checksum_is_the_one_of_sha256sum(path):
    said = path.with_suffix(".sha256").read_text()
    assert said == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  table.csv\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.encode("utf-16"), "is not UTF-8"),
        (lambda text: b"", "is no table: nothing in it"),
        (lambda text: (text + "<<<<<<< HEAD\n").encode(), "is no table: rows of different lengths"),
        (lambda text: b"\n\n", "is no table: "),
        (lambda text: text.replace("run,", "ran,").replace("scale", "size").encode(), "lacks the columns run, scale"),
        (lambda text: text.split("\n")[0].encode() + b"\n", "has a header and no rows"),
        (lambda text: text.replace("12345e678901", "").encode(), "has rows without run"),
        (lambda text: (text + text.splitlines(True)[-1]).encode(), "holds a row of run 000000000012 twice"),
    ],
)
def test_what_is_no_table_of_runs_is_not_read_whatever_its_checksum(path, change, message):
    path.write_bytes(change(path.read_text()))
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  table.csv\n")
    refused(path, message)
