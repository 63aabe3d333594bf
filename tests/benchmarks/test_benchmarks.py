"""The benchmarks: well-formed rows, peers that do the same work as ours, and the command line."""

import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_chart, bench_sampler
from benchmarks.__main__ import main, measure, names
from benchmarks.timing import PRINTED, compare, measure_in_turns, rate_of
from synth.cfg import count_parses, is_member, load, sample
from synth.cfg.formats import to_nltk
from synth.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ROW = compare("a case", "things/s", [2.0, 4.0, 3.0], "a peer", [1.0, 1.0, 2.0], threads=1, bar=2.0)


@pytest.mark.filterwarnings("ignore")  # other people's code speaks here
@pytest.mark.parametrize("name", names())
def test_rows_are_well_formed(name: str) -> None:
    rows = list(measure(name, quick=True))
    assert rows and len({row.case for row in rows}) == len(rows)
    for row in rows:
        printed = json.loads(json.dumps(row.to_json()))
        assert tuple(printed) == PRINTED and printed["name"] == name and printed["unit"]
        assert row.value > 0 and 0 < row.low <= row.high
        assert row.peer_value and row.ratio == pytest.approx(row.value / row.peer_value)


def test_names_are_the_files() -> None:
    assert names() == [
        "canon",
        "chart",
        "curves",
        "delta",
        "generation",
        "mixers",
        "next_token",
        "precision",
        "rendering",
        "sampler",
        "sweep",
        "training",
    ]


def test_sides_take_turns() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    rates = measure_in_turns(lambda: side("a"), lambda: side("b"), rounds=2)
    assert "".join(calls) == "ab" + "abab"  # the first turn warms up
    assert rates == [[3.0, 5.0], [4.0, 6.0]]


def test_rates_and_medians() -> None:
    def work() -> int:
        time.sleep(0.05)
        return 10

    assert 50 < rate_of(work)() <= 200
    assert (ROW.value, ROW.peer_value, ROW.ratio, ROW.low, ROW.high) == (3.0, 1.0, 3.0, 1.5, 4.0)
    assert ROW.met and not replace(ROW, bar=3.5).met and replace(ROW, bar=None).met is None
    assert replace(ROW, bar=2.9, bar_on="value").met
    alone = compare("a case", "things/s", [2.0, 4.0, 3.0], threads=1)
    assert (alone.peer, alone.peer_value, alone.ratio, alone.low, alone.high) == (None, None, None, 2.0, 4.0)


def test_expansion_draws_the_same_language() -> None:
    grammar = load("cfg3f")
    public, stream = to_nltk(grammar, probabilities=False), random.Random(0)
    sentences = [grammar.encode(bench_sampler.expand(public, public.start(), stream)) for _ in range(200)]
    offsets = np.cumsum([0, *map(len, sentences)])
    assert is_member(grammar, np.concatenate(sentences), offsets).all()
    lengths = np.diff(offsets)
    assert abs(lengths.mean() - grammar.mean_length) < 5 * lengths.std() / math.sqrt(len(lengths))


def test_nltk_counts_the_same_parses() -> None:
    grammar = load("cfg3f", root="17")
    tokens, offsets, _ = sample(grammar, np.random.default_rng(0), 30)
    earley = bench_chart.parser(grammar)
    theirs = [bench_chart.parses(earley, grammar.decode(tokens[a:b])) for a, b in pairwise(offsets)]
    assert theirs == count_parses(grammar, tokens, offsets).tolist()
    assert bench_chart.parses(earley, ["1"] * 50) == 0


def test_a_slow_peer_gets_typical_sentences() -> None:
    grammar = load("cfg3f")
    tokens, offsets, _ = sample(grammar, np.random.default_rng(0), 200)
    lengths = [len(sentence) for sentence in bench_chart.sentences_of_mean_length(grammar, tokens, offsets, 3)]
    assert all(abs(length - grammar.mean_length) < 10 for length in lengths)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("flavour", ["gpt2", "llama"])
def test_transformers_has_the_same_model(flavour: str) -> None:
    import torch

    from benchmarks.peers import model_of, to_peer

    model = model_of(flavour, layers=2, width=32, max_seq_len=16)
    inputs = torch.randint(model.vocab_size, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model.eval()(inputs), to_peer(model).eval()(inputs).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_transformers_trains_as_ours_does(tmp_path: Path) -> None:
    """From the same weights both begin at the same loss, to what the data's order allows, and end lower."""
    from benchmarks.bench_training import TASK, TrainingJob, trainer, windows
    from benchmarks.peers import model_of
    from lm.config import TrainConfig
    from lm.training.loop import train

    load, model = TrainingJob(batch=8, window=64, warm=2, steps=12), model_of("gpt2", 2, 32, 64)
    config = TrainConfig(steps=load.steps, batch_size=load.batch, seq_len=load.window)
    history = train(model, TASK, config, data_seed=0, log_every=load.steps, on_step=lambda *_: None)
    result = trainer(lambda: model_of("gpt2", 2, 32, 64), load, windows(load), str(tmp_path)).train()
    assert result.global_step == load.steps
    assert result.training_loss == pytest.approx(history[-1]["loss"], abs=0.05)


@pytest.mark.filterwarnings("ignore")
def test_both_generate_every_token() -> None:
    from benchmarks.bench_generation import ours, theirs
    from benchmarks.peers import model_of, to_peer

    model = model_of("gpt2", layers=1, width=16, max_seq_len=16)
    prompts = [[0], [0, 1], [0, 1, 2]]
    assert ours(model, prompts, 7, None) == theirs(to_peer(model).eval(), prompts, 7, None) == 21


def test_finished_texts_have_the_same_ids() -> None:
    from benchmarks.bench_rendering import RENDERED, texts
    from synth import Corpus

    for task, _ in RENDERED.values():
        tokenizer, lines = texts(task, 20)
        block = Corpus(task, 0).documents(0, 20)
        wanted = [block[i].tokens[1:-1].tolist() for i in range(20)]
        assert [found.ids for found in tokenizer.encode_batch(lines)] == wanted


def test_batches_drawn_beforehand_train_the_same() -> None:
    from benchmarks.bench_rendering import batches, jobs, train_job

    for job in jobs(quick=True).values():
        fresh, ready = train_job(job), train_job(job, batches(job))
        assert [row["loss"] for row in fresh] == [row["loss"] for row in ready] and len(fresh) == 2
        assert np.array_equal(fresh.exposures, ready.exposures) and fresh.exposures.sum() > 0


def test_unknown_name_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["chart", "samplr"])
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.out == ""
    assert captured.err == (
        f"error: unknown benchmark 'samplr'; did you mean sampler? choose among {', '.join(names())}\n"
    )
    with pytest.raises(UserError):
        list(measure("nothing", quick=True))


def test_quick_numbers_are_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["sampler", "--quick", "--write"])
    assert end.value.code == 2 and "--quick" in capsys.readouterr().err


def test_json_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sampler", "--quick", "--json"])
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [row["case"] for row in rows] == ["cfg3f, labels off", "cfg3f, labels on"]
    main(["sampler", "--quick"])
    head, *body = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "case", "ours"] and len(body) == 2 and "10,000,000" in body[0]


def test_written_table_keeps_other_benchmarks(tmp_path: Path) -> None:
    import pandas as pd

    from benchmarks.report import write

    alone = compare("alone", "things/s", [1.0], threads=2)
    write([replace(ROW, name="one"), replace(alone, name="two")], tmp_path)
    paths = write([replace(ROW, name="one", case="anew")], tmp_path)
    assert [path.name for path in paths] == ["table.csv", "figure.png", "figure.svg"]
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table["case"]) == ["anew", "alone"]
    assert list(table["ratio"].isna()) == [False, True]
    assert table[["cpu", "cores", "torch", "numba", "transformers", "git_commit", "date"]].notna().all(axis=None)


def test_help_is_fast_and_light() -> None:
    code = (
        "import sys\nfrom benchmarks.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numba', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "sampler" in done.stdout and time.perf_counter() - began < 2


def test_the_roofline_counts_what_a_step_needs() -> None:
    import torch

    from benchmarks.roofline import count_bytes, count_products, least_step_seconds
    from lm.config import ModelConfig
    from lm.model_size import flops_per_token

    config = ModelConfig.llama(2, 2, 32, max_seq_len=16)
    products = count_products(config, 50, tokens=64)
    flops = sum(2 * n * m * k * count for (n, m, k), count in products.items())
    without_attention = flops_per_token(config, 50, 0) * 64
    assert flops == pytest.approx(without_attention, rel=0.02)  # norms have few weights, and no products
    none, some, more = (count_bytes(config, 50, tokens) for tokens in (0, 64, 128))
    assert 0 < none < some and more - some == some - none  # the optimizer's part does not grow with the batch
    torch.set_num_threads(1)
    once, twice = (least_step_seconds(config, 50, batch, 256) for batch in (8, 32))
    assert 0 < once < twice


def test_a_missing_extra_leaves_its_own_benchmark_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import bench_sweep

    monkeypatch.setattr(bench_sweep, "find_spec", lambda name: None)
    assert not list(measure("sweep", quick=True))
    assert "Ray is not installed" in capsys.readouterr().err


def test_the_gpu_script_runs_at_toy_sizes_and_asks_for_a_gpu_else() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu"]
    quick = subprocess.run([*command, "--quick"], cwd=ROOT, capture_output=True, text=True)
    assert quick.returncode == 0 and quick.stdout.count("tokens/s") == 7, quick.stderr
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    without = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert without.returncode == 2 and without.stderr.count("\n") == 1 and "--quick" in without.stderr
