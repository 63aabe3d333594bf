"""The experiments that look inside models of a grammar draw what there is and judge planted tables rightly."""

import pandas
import pytest
from planted_tables import module, parts, verdicts

from experiments.harness.experiment import select
from experiments.harness.papers import part1_grammars
from experiments.harness.run import SCALES, evaluation_settings
from lm.model_size import count_parameters


def columns(run, scale: str, evaluation) -> dict:
    """What the harness writes into every row."""
    seeds = {"seed_init": run.seeds.init, "parameters": 1e6, "steps": run.steps, "tokens": 1e6}
    return {**dict(run.tags), **seeds, "scale": scale, **evaluation_settings(evaluation)}


def noise(seed: int) -> float:
    """Seeds lie a little apart."""
    return 0.002 * (seed - 1)


# ---- 02: probes ------------------------------------------------------------------------------------------------
def probed(scale: str, read: dict[str, float] | None = None, missed: tuple[int, ...] = ()) -> pandas.DataFrame:
    """A table as the runs of this scale would make it: `read` of the answers are right, by architecture, in every layer
    and of every level, but the encoders read half on the levels of the paper that are `missed`."""
    read = read or {"rotary": 0.999, "encoder": 0.998, "untrained": 0.5}
    found = []
    for run in select(["02"])[0].runs(scale):
        architecture, depth = dict(run.tags)["architecture"], dict(run.tags)["depth"]
        for probe in run.evaluations:
            names = [name for name in probe.layers if "*" not in name]
            if "block.*" in probe.layers:
                names += [f"block.{i}" for i in range(run.model.n_layers)]
            for layer in names:
                for level in range(2, depth):
                    blind = "encoder" in architecture and part1_grammars.paper_level(level, depth) in missed
                    share = (0.5 if blind else read[architecture.removeprefix("relative ")]) + noise(run.seeds.init) / 4
                    row = {"layer": layer, "level": level, "accuracy": share, "majority": 0.4}
                    found.append(columns(run, scale, probe) | row)
    return pandas.DataFrame(found)


@pytest.mark.parametrize("scale", SCALES)
def test_trees_that_are_read_are_reported(scale: str) -> None:
    found = verdicts(module("02").claims(probed(scale)))
    told = {verdict for name, verdict in found.items() if "rotary minus untrained" in name}
    assert told == ({"not testable here"} if scale == "smoke" else {"reproduced"})
    worst = {name: verdict for name, verdict in found.items() if "read worst" in name}
    sure = {"gpu": ("cfg3b",), "paper": ("cfg3b", "cfg3f")}.get(scale, ())
    for name, verdict in worst.items():
        assert verdict == ("reproduced" if name.startswith(sure) and sure else "not testable here"), name


@pytest.mark.parametrize("scale", SCALES)
def test_every_level_of_a_scale_has_its_rows(scale: str) -> None:
    found, depth = verdicts(module("02").claims(probed(scale))), part1_grammars.grammar_tags(scale, "cfg3f")["depth"]
    for level in range(2, depth):
        name = f"cfg3f, NT{part1_grammars.paper_level(level, depth)} of every position, rotary minus untrained"
        assert any(statement.startswith(name) for statement in found)
    assert not any("NT7" in statement or "NT1" in statement for statement in found)


def test_what_an_untrained_model_holds_too_is_no_discovery() -> None:
    found = verdicts(module("02").claims(probed("laptop", {"rotary": 0.5, "encoder": 0.5, "untrained": 0.6})))
    told = [verdict for name, verdict in found.items() if "rotary minus untrained" in name]
    assert told == ["contradicted"] * 4  # two levels, at all positions and at ends


@pytest.mark.parametrize("scale", ["laptop", "overnight", "gpu", "paper"])
def test_encoders_are_judged_where_the_paper_sees_them_fail(scale: str) -> None:
    experiment = module("02")
    misses = {n: v for n, v in verdicts(experiment.claims(probed(scale, missed=(2, 3, 4)))).items() if "encoder" in n}
    knows = {n: v for n, v in verdicts(experiment.claims(probed(scale))).items() if "encoder" in n}
    if scale == "laptop":  # its root is too low for levels that an encoder could miss
        deep = [verdict for name, verdict in misses.items() if "NT2 to NT4" in name]
        assert deep == ["not testable here"] * 2 and sorted(misses.values()).count("reproduced") == 8
        assert misses == knows
    else:
        assert set(misses.values()) == {"reproduced"}
        assert {v for n, v in misses.items() if "NT4" in n} == {"reproduced"}
    shallow = verdicts(experiment.claims(probed(scale, missed=(5, 6))))
    assert {v for n, v in shallow.items() if "encoder" in n and ("NT5 of" in n or "NT6 of" in n)} == {"contradicted"}


def test_neighbours_that_add_much_speak_against_ends() -> None:
    table = probed("laptop")
    table.loc[(table["mode"] == "diagonal") & (table["architecture"] == "rotary"), "accuracy"] -= 0.2
    found = verdicts(module("02").claims(table))
    assert {v for n, v in found.items() if "neighbours add" in n} == {"contradicted"}


def test_less_training_is_drawn_and_not_judged() -> None:
    table = probed("laptop")
    early = table["share"] != ""
    assert set(table.loc[early, "steps"]) == {500, 1500}
    whole = module("02").claims(table)
    table.loc[early, "accuracy"] = 0.1
    assert module("02").claims(table) == whole


def test_gpt_and_encoder_differ_by_the_mask_alone() -> None:
    from lm.model import build

    runs = {
        dict(run.tags)["architecture"]: run for run in select(["02"])[0].runs("laptop") if not dict(run.tags)["share"]
    }
    sizes = {
        name: count_parameters(build(run.model, run.model.model_vocab_size(run.task.vocab()), 0))["total"]
        for name, run in runs.items()
    }
    assert sizes["encoder"] - sizes["rotary"] == runs["rotary"].model.d_model and sizes["rotary"] == sizes["untrained"]
    assert runs["relative encoder"].model.positions == "relative" and not runs["relative encoder"].model.causal
    a, b = runs["rotary"].train, runs["encoder"].train
    assert (a.steps, a.batch_size, a.seq_len) == (b.steps, b.batch_size, b.seq_len) and b.objective == "masked"


# ---- 03: attention ---------------------------------------------------------------------------------------------
def attended(scale: str, at_ends: float = 0.1, adjacent: float = 0.2) -> pandas.DataFrame:
    """A table as the runs of this scale would make it: trained models give ends so much more, adjacent ones so much."""
    found = []
    for run in select(["03"])[0].runs(scale):
        tags, (asked,) = dict(run.tags), run.evaluations
        common, levels = columns(run, scale, asked), range(2, tags["depth"])
        gain = (1.0 if tags["state"] == "trained" else 0.0) + noise(run.seeds.init)
        shifts = range(-asked.shifts, asked.shifts + 1)

        def add(statistic: str, value: float, common: dict = common, **places) -> None:
            found.append(common | {"statistic": statistic, **places, "value": value, "pairs": 100})

        for layer in (1, 2):
            add("explained", 0.5, layer=layer, head=1)
            for distance in range(asked.distances):
                add("position", 1 / (distance + layer), layer=layer, head=1, distance=distance)
        for key in levels:
            for s in shifts:
                add("to_end", gain * at_ends * (s == 0), key_level=key, key_shift=s)
            for query in levels:
                for q, k in [(q, k) for q in shifts for k in shifts]:
                    value = gain * at_ends * (q == k == 0)
                    add("end_to_end", value, query_level=query, query_shift=q, key_level=key, key_shift=k)
                for apart in range(asked.reach + 1):
                    value = gain * adjacent * (apart == 1)
                    add("adjacent", value, query_level=query, key_level=key, apart=apart)
    return pandas.DataFrame(found)


@pytest.mark.parametrize("scale", SCALES)
def test_attention_to_adjacent_ends_is_reported(scale: str) -> None:
    found = set(verdicts(module("03").claims(attended(scale))).values())
    assert found == ({"not testable here"} if scale == "smoke" else {"reproduced"})


def test_attention_away_from_ends_contradicts() -> None:
    found = verdicts(module("03").claims(attended("laptop", at_ends=-0.1, adjacent=-0.2)))
    assert set(found.values()) == {"contradicted"}
    mixed = verdicts(module("03").claims(attended("laptop", at_ends=0.1, adjacent=-0.2)))
    assert {v for n, v in mixed.items() if "adjacent" in n} == {"contradicted"}
    assert {v for n, v in mixed.items() if "keys at ends" in n or "beside ends" in n} == {"reproduced"}


def test_kinds_of_pairs_count_as_often_as_they_came() -> None:
    table = pandas.DataFrame({"seed_init": [0, 0, 1], "value": [1.0, 4.0, 2.0], "pairs": [2, 1, 5]})
    assert module("03").mean_residual(table).to_dict() == {0: 2.0, 1: 2.0}


# ---- both ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("number", "planted"), [("02", probed), ("03", attended)])
def test_every_scale_draws_what_there_is(number: str, planted, scale: str) -> None:
    table, experiment = planted(scale), module(number)
    # at the paper's scale there are seven rows of panels in each
    for part in [table.iloc[: len(table) // 5]] if scale == "paper" else parts(table):
        experiment.figure(part)
        experiment.claims(part)


def test_levels_have_the_papers_names() -> None:
    assert [part1_grammars.paper_level(level, 7) for level in (2, 6)] == [2, 6]
    assert [part1_grammars.paper_level(level, 4) for level in (2, 3)] == [5, 6]  # cfg3f rooted at 13: 10..12, and 7..9
