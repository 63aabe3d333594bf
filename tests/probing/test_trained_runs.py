"""Tasks of recorded runs are built from identity names, whatever classes and fields are called today."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from probing.trained_runs import find_people_run
from synth import UserError
from synth.identity import canonical, fields_by_identity
from synth.mixture import Mixture
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS


@dataclass(frozen=True)
class Renamed:
    identity_name = "Old"

    new: int = field(default=1, metadata={"identity": "old"})
    same: int = 2


def test_fields_are_found_by_their_identity_names() -> None:
    recorded = canonical(Renamed(5, 6))
    assert recorded.pop("class") == "Old" and fields_by_identity(Renamed, recorded) == {"new": 5, "same": 6}
    with pytest.raises(KeyError):
        fields_by_identity(Renamed, {"new": 5})


@pytest.mark.parametrize("task", [BioS(people=4), Mixture((BioS(people=4), BioQuestions(people=4)), (0.5, 0.5))])
def test_a_recorded_task_is_built_again(tmp_path: Path, task: BioS | Mixture) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    record = {"run": {"task": canonical(task), "seeds": {"data": 3}}}
    path = tmp_path / "run" / "run.json"
    path.write_text('{"checksum": ""}\n' + json.dumps(record))
    found = find_people_run("run", tmp_path)
    assert found.task == task and found.data_seed == 3
    record["run"]["task"]["legs"] = 2
    path.write_text('{"checksum": ""}\n' + json.dumps(record))
    with pytest.raises(UserError, match="fields that this version does not know"):
        find_people_run("run", tmp_path)
