"""Experiment 05 draws what there is and judges planted tables rightly."""

import pandas
import pytest

from experiments.harness.experiment import select
from experiments.harness.run import SCALES, evaluation_settings

NOT_RUN = {scale: ("not run",) if scale == "gpu" else () for scale in SCALES}  # words of unequal frequency


def module():
    return select(["05"])[0].load_module()


def planted(
    scale: str, lost: float = 0.0, purity: float = 0.99, gathered: float = 0.8, explicit: float = 0.98
) -> pandas.DataFrame:
    """A table as the runs of this scale would make it: of the grammar itself the model writes a share `explicit` of
    valid sentences, and hidden grammars lose so much of it; neighbours are so pure; likeness falls by `gathered` with
    each step away from the same bags."""
    found = []
    for run in select(["05"])[0].runs(scale):
        tags, seed = dict(run.tags), run.seeds.init
        small = 0.002 * (seed - 1)
        loss = 0.0 if tags["variant"] == "explicit" else lost + small
        trained = tags["state"] == "trained"
        for asked in run.evaluations:
            common = {**tags, **evaluation_settings(asked), "scale": scale, "seed_init": seed}
            common |= {"parameters": 1e6, "steps": run.steps, "tokens": 1e6}
            if type(asked).__name__ == "Validity":
                cuts = {f"valid_{cut}": explicit - loss for cut in asked.cuts}
                found.append(common | cuts | {"kl": 0.01 + loss})
                continue
            steps = gathered if trained else 0.0
            alike = {"same": steps + small, "shared": 0.0, "apart": -steps - 2 * small, "agreement": steps + small}
            pure = {"purity": purity + small if trained else 0.35, "purity_chance": 0.33, "chance_valid": 0.1}
            found.append(common | {"statistic": "geometry", **alike, **pure})
            for n in range(asked.num_plotted_words):
                place = {"x": n / 7, "y": -n / 5, "x_share": 0.5, "y_share": 0.3}
                found.append(common | {"statistic": "word", "word": f"w{n + 1}", "bags": f"{{{n % 3 + 1}}}", **place})
    return pandas.DataFrame(found)


def verdicts_on(table: pandas.DataFrame, words: str) -> list[str]:
    """The verdicts on the lines whose statements have these words."""
    return [claim.verdict for claim in module().claims(table) if words in claim.statement]


VALIDITY, NEIGHBOURS, LIKENESS = "valid sentences", "nearest neighbour", "correlation of likeness"


@pytest.mark.parametrize("scale", SCALES)
def test_hidden_grammars_that_are_learned_are_reported(scale: str) -> None:
    claims = module().claims(planted(scale))
    assert {claim.verdict for claim in claims} == (
        {"not testable"} if scale == "smoke" else {"reproduced", *NOT_RUN[scale]}
    )
    first = [claim for claim in claims if claim.primary]
    assert len(first) == 1 and first[0].statement.startswith("cfg3f behind bags (disjoint): share of valid")
    assert len(claims) == (12 if scale == "paper" else 6)


@pytest.mark.parametrize("scale", SCALES[1:])
def test_what_is_lost_behind_bags_contradicts(scale: str) -> None:
    table = planted(scale, lost=0.2)
    assert set(verdicts_on(table, VALIDITY)) == {"contradicted", *NOT_RUN[scale]}
    assert set(verdicts_on(table, NEIGHBOURS) + verdicts_on(table, LIKENESS)) == {"reproduced"}


@pytest.mark.parametrize("scale", SCALES[1:])
def test_embeddings_that_do_not_gather_contradict(scale: str) -> None:
    table = planted(scale, purity=0.4, gathered=-0.1)
    assert set(verdicts_on(table, NEIGHBOURS) + verdicts_on(table, LIKENESS)) == {"contradicted"}
    assert set(verdicts_on(table, VALIDITY)) == {"reproduced", *NOT_RUN[scale]}


def test_a_model_that_has_not_learned_the_grammar_says_nothing_of_hidden_ones() -> None:
    table = planted("laptop", lost=0.2, explicit=0.8)
    gated = [claim for claim in module().claims(table) if VALIDITY in claim.statement]
    assert len(gated) == 4 and {claim.verdict for claim in gated} == {"not testable"}
    assert all(claim.gate == "the grammar itself, valid from nothing 0.8, needs at least 0.95" for claim in gated)
    assert set(verdicts_on(table, NEIGHBOURS) + verdicts_on(table, LIKENESS)) == {"reproduced"}


def test_untrained_embeddings_are_taken_off() -> None:
    table = planted("laptop")
    table.loc[(table["state"] == "untrained") & (table["statistic"] == "geometry"), "agreement"] = 0.9
    assert verdicts_on(table, LIKENESS) == ["contradicted"]


def test_neighbours_are_counted_by_words() -> None:
    (claim,) = [claim for claim in module().claims(planted("laptop", purity=0.998)) if NEIGHBOURS in claim.statement]
    assert claim.low is not None and claim.high is not None and 0.95 < claim.low < 0.998 < claim.high <= 1


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_draws_what_there_is(scale: str) -> None:
    table, experiment = planted(scale), module()
    first = table.iloc[:1].dropna(axis=1)  # the first run is that of the grammar itself and has no word vectors
    parts = [table.iloc[: len(table) // 5]] if scale == "paper" else [first, table]
    for part in parts:
        experiment.figure(part)
        experiment.claims(part)


def test_sets_of_bags_stay_texts_in_a_table(tmp_path) -> None:
    """A column of "1", "2", "3" would come back as numbers."""
    planted("smoke").to_csv(tmp_path / "table.csv", index=False)
    assert set(pandas.read_csv(tmp_path / "table.csv")["bags"].dropna()) == {"{1}", "{2}", "{3}"}


def test_all_read_the_same_number_of_tokens() -> None:
    for scale in SCALES:
        trained = [run for run in select(["05"])[0].runs(scale) if run.train]
        assert len({run.train for run in trained}) == 1 and len({run.model for run in trained}) == 1
        assert trained[0].model.max_seq_len > trained[0].task.world(0).max_length
