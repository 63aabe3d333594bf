"""The planner: bits by hand, shapes as lm counts them, the committed law, files of facts, and what is wrong."""

import json
import os
import shlex
import subprocess
import sys
import time
from math import log2
from pathlib import Path

import pytest
import torch

from lm.__main__ import Train
from lm.config import ModelConfig
from lm.model import Decoder
from lm.model_size import count_parameters, flops_per_token
from probing.__main__ import run
from probing.capacity.planner import GPT2Shape, ModelRequirement, people_fact_set, read_fact_set
from probing.capacity.scaling_law import ScalingLawPoint, interpolate, load_scaling_law
from synth import Corpus
from synth.bio import InformationContent
from synth.commands.command_line import parse_with_task
from synth.errors import UserError

TABLE = """name,job,town
Ann Lee,cook,New York
Bob Lee,nurse,Paris
Ann Kay,cook,Oslo
Bob Kay,cook,
"""


def plan(*arguments: object) -> str:
    return run(["plan", *map(str, arguments)])


def test_people_hold_what_the_paper_says() -> None:
    assert people_fact_set(50_000).bits / 50_000 == pytest.approx(59.2, abs=0.05)
    sizes = {"a": log2(12), "b": log2(28)}
    assert people_fact_set(10, 1e6, (12, 28)).bits == pytest.approx(InformationContent(10, log2(1e6), sizes).bits)


def test_a_table_by_hand(tmp_path: Path) -> None:
    """Names 2 x 2 of 4: all of them, 0 bits. Jobs 3:1. Towns of 1 or 2 words out of 4: which three of 4^(4/3) are."""
    path = tmp_path / "facts.csv"
    path.write_text(TABLE)
    found = read_fact_set(path)
    job = 0.75 * log2(4 / 3) + 0.25 * 2
    assert found.subjects == 4 and found.name_bits == pytest.approx(0)
    assert found.value_bits == pytest.approx(4 * job + 3 * log2(3))
    assert found.list_bits == pytest.approx(3 * (4 / 3 * 2 - log2(3)))
    assert found.tokens_per_subject == 2 + (8 + 4 + 4 + 4 + 3) / 4  # names, jobs, towns, and the marks of both
    assert found.vocab_size == 4 + 2 + 4 + 2 + 3  # words of names, jobs, towns, marks; <bos> <eos> <pad>
    assert read_fact_set(path, names=4000).name_bits == pytest.approx(4 * log2(1000))


def test_triples_are_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    lines = [row.split(",") for row in TABLE.splitlines()]
    triples = [(row[0], lines[0][k], row[k]) for row in lines[1:] for k in (1, 2) if row[k]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(triple) + "\n" for triple in triples))
    assert read_fact_set(tmp_path / "a.jsonl") == read_fact_set(tmp_path / "a.csv")


@pytest.mark.parametrize("shape", [GPT2Shape(2, 16, 65), GPT2Shape(4, 64, 3275), GPT2Shape(3, 200, 10)])
def test_shapes_are_counted_as_lm_counts_them(shape: GPT2Shape) -> None:
    config = ModelConfig(shape.layers, 1, shape.width)
    with torch.device("meta"):
        model = Decoder(config, shape.vocabulary)
    assert shape.parameters == count_parameters(model)["total"]
    assert shape.flops_per_token(128) == flops_per_token(config, shape.vocabulary, 128)


@pytest.mark.parametrize("n", [10, 3000, 10**6])
def test_the_model_is_the_smallest_of_its_depth(n: int) -> None:
    need = ModelRequirement(ScalingLawPoint(1000, 2.0, 1.9, 2.3, "fit", ""), people_fact_set(n))
    shape = need.shape
    assert shape.parameters >= need.parameters == people_fact_set(n).bits / 2
    assert shape.width == 16 or GPT2Shape(shape.layers, shape.width - 8, shape.vocabulary).parameters < need.parameters
    assert need.parameters_low < need.parameters < need.parameters_high
    assert need.tokens == n * 80 * 1000 and need.flops > 6 * need.tokens * need.shape.width**2


def test_the_law_is_whole_and_says_where_it_comes_from() -> None:
    found = load_scaling_law()
    assert [law.exposures for law in found] == [100, 1000]
    assert all(0 < law.low <= law.bits_per_parameter <= law.high and law.source for law in found)
    assert all(a.bits_per_parameter < b.bits_per_parameter for a, b in zip(found, found[1:], strict=False))


def test_the_output_says_whose_law_it_is() -> None:
    text = plan("--people", 10_000)
    origins = {law.origin for law in load_scaling_law()}
    assert "10,000 subjects hold 616k bits, 61.6 each" in text
    assert ("not our own fit" in text) == ("paper" in origins) and ("a guess" in text) == ("guess" in origins)
    assert "smaller vocabulary" in text and "smaller vocabulary" not in plan("--people", 10_000, "--vocab-size", 50)


def test_between_measured_exposures() -> None:
    """Halfway in the logarithm from 100 to 1000 is 316.2."""
    law = [
        ScalingLawPoint(100, 1.0, 0.5, 1.5, "fit", "", 1e3, 1e5),
        ScalingLawPoint(1000, 2.0, 1.5, 2.1, "fit", "", 2e3, 9e4),
    ]
    assert interpolate(law, 100) == law[0] and interpolate(law, 1000) == law[1]
    found = interpolate(law, 316)
    assert (found.bits_per_parameter, found.low, found.high) == pytest.approx((1.5, 1.0, 1.8), abs=1e-3)
    assert (found.smallest, found.largest, found.origin) == (2e3, 9e4, "interpolated")
    for outside in (99, 1001, 0, -5):
        with pytest.raises(UserError, match=f"--exposures {outside} is outside what was measured; give 100 to 1000"):
            interpolate(law, outside)
    assert "interpolated in the logarithm" in plan("--people", 500, "--exposures", 300)


def test_far_beyond_the_measured_sizes_it_says_so_in_a_line() -> None:
    sizes = load_scaling_law()[-1]
    within = sizes.largest * sizes.bits_per_parameter * 5 / people_fact_set(1000).bits * 1000
    for people, said in ((10 * within, True), (within / 5, False)):
        text = plan("--people", int(people), "--exposures", 1000, "--vocab-size", 60)
        assert [line.startswith("An extrapolation: ") for line in text.splitlines()].count(True) == said


@pytest.mark.parametrize("given", ["people", "facts"])
def test_the_printed_command_is_one_that_trains(given: str, tmp_path: Path) -> None:
    path = tmp_path / "my facts.csv"
    path.write_text(TABLE.replace("cook,\n", "cook,Rome\n"))
    text = plan(*(("--people", 2000) if given == "people" else ("--facts", path)), "--exposures", 500)
    (line,) = (line for line in text.splitlines() if "lm train" in line)
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "lm", "train"]
    options, task, _ = parse_with_task(Train, "lm train", words[4], words[5:])
    subjects = task.num_items(task.world(0))
    assert subjects == (2000 if given == "people" else 4)
    assert f"{options.model.n_layers} layers of {options.model.d_model}" in text
    tokens = options.train.steps * options.train.batch_size * options.train.seq_len
    exposures = tokens / (subjects * Corpus(task, 1).documents(0, 500).lengths.mean())
    assert exposures == pytest.approx(500, rel=0.05)
    if given == "people":  # a dry run: the model is built without memory
        with torch.device("meta"):
            assert count_parameters(Decoder(options.model, 3275))["total"] >= people_fact_set(2000).bits / 2.3


def test_no_command_where_no_task_tells_the_facts(tmp_path: Path) -> None:
    (tmp_path / "gaps.csv").write_text(TABLE)
    for arguments in (("--people", 500, "--values", 12), ("--facts", tmp_path / "gaps.csv")):
        assert "lm train facts" not in plan(*arguments) and "No task tells these facts" in plan(*arguments)


def test_json_holds_the_same() -> None:
    found = json.loads(plan("--people", 500, "--names", 1e6, "--values", 12, 28, "--tokens-per-subject", 15, "--json"))
    assert found["bits"] == pytest.approx(people_fact_set(500, 1e6, (12, 28)).bits)
    assert [row["exposures"] for row in found["needs"]] == [100, 1000]
    assert all(row["seconds"] > 0 for row in found["needs"])


@pytest.mark.parametrize(
    ("text", "suffix", "named"),
    [
        ("", "csv", "holds no facts"), ("name,job\n", "csv", "holds no facts"),
        ("name,job\nAnn\n", "csv", "line 2 has 1 cells"), ("name,job\nAnn,a\nAnn,b\n", "csv", "again"),
        ('["Ann", "job", "a"]\n["Ann", "job", "b"]\n', "jsonl", "two values"), ("nonsense", "jsonl", "cannot read"),
        ('{"a": 1}', "jsonl", "line 1 is not"),
    ],
)  # fmt: skip
def test_files_that_are_wrong_are_named(text: str, suffix: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / f"facts.{suffix}"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        read_fact_set(path)


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "large.csv").touch()
    os.truncate(tmp_path / "large.csv", 200_000_001)  # takes no room on the disk
    for arguments, named in (
        (("--people", 0), "distinct names"),
        (("--people", 100, "--names", 50), "1 to 50 people"),
        (("--people", 5, "--values", 0), "at least 1"),
        (("--facts", tmp_path / "none.csv"), "No such file"),
        (("--facts", "/dev/zero"), "/dev/zero is no regular file"),
        (("--facts", tmp_path / "large.csv"), "large.csv has more than 200,000,000 bytes"),
        (("--facts", tmp_path / "a.csv", "--names", 3), "larger --names"),
        (("--facts", tmp_path / "a.csv", "--vocab-size", 3), "leave it out"),
    ):
        with pytest.raises(UserError, match=named):
            plan(*arguments)


def test_the_command_line_is_fast_and_answers_errors_in_a_line() -> None:
    begin = time.perf_counter()
    code = "import sys, probing.__main__ as m, probing.capacity.planner_report; assert 'torch' not in sys.modules; "
    subprocess.run([sys.executable, "-c", code + "m.run(['plan', '--people', '9'])"], check=True)
    helped = subprocess.run([sys.executable, "-m", "probing", "--help"], capture_output=True, text=True)
    assert helped.returncode == 0 and "plan --facts" in helped.stdout
    assert time.perf_counter() - begin < 8  # two processes; the first loads torch to measure this machine
    bad = subprocess.run([sys.executable, "-m", "probing", "plan", "--people", "0"], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("error: 0 people") and bad.stderr.count("\n") == 1
