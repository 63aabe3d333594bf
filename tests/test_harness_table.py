"""Tables keep their types, their digits and their order."""

import numpy as np
import pytest

from experiments.harness.table import read_table, to_table, write_table
from synth import UserError

BASE = {"parameters": 10, "tokens": 5, "steps": 2, "train_loss": 0.5, "git_commit": "1234567", "device": "x"}
BASE["seconds"] = 1


def results():
    first = {"run": "12345e678901", "experiment": "01", "kind": "None", "seed_data": 0, "score": 0.1 + 0.2, **BASE}
    second = {"run": "000000000012", "experiment": "01", "kind": "NA", "seed_data": 1, "exact": 7, **BASE}
    return [[first], [second, {**second, "exact": 8}]]


def test_a_table_comes_back_as_it_was(tmp_path):
    table = to_table(results(), "laptop")
    assert list(table.columns) == ["run", "experiment", "scale", "kind", "seed_data", "score", "exact", *BASE]
    write_table(table, tmp_path / "table.csv")
    again = read_table(tmp_path / "table.csv")
    assert list(again.run) == ["12345e678901", "000000000012", "000000000012"]
    assert list(again.kind) == ["None", "NA", "NA"]
    assert list(again.git_commit) == ["1234567"] * 3
    assert again.score[0] == 0.1 + 0.2 and np.isnan(again.score[1])
    write_table(again, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


def test_a_cut_table_is_not_read(tmp_path):
    path = tmp_path / "table.csv"
    write_table(to_table(results(), "laptop"), path)
    whole = path.read_text()
    for cut in (1, 20, len(whole) // 2):
        path.write_text(whole[:-cut])
        with pytest.raises(UserError, match="cut short"):
            read_table(path)
    path.write_text(whole + "<<<<<<< HEAD\n")
    with pytest.raises(UserError, match="cut short or edited"):
        read_table(path)
    with pytest.raises(UserError, match="no table"):
        read_table(tmp_path / "none.csv")
