"""Experiment 05 draws what there is and judges planted tables rightly."""

import pandas
import pytest

from experiments.harness.experiment import select
from experiments.harness.run import SCALES, evaluation_settings


def module():
    return select(["05"])[0].load_module()


def planted(scale: str, lost: float = 0.0, purity: float = 0.99, gathered: float = 0.8) -> pandas.DataFrame:
    """A table as the runs of this scale would make it: hidden grammars lose so much of validity and, in nats, of
    divergence; neighbours are so pure; likeness falls by `gathered` with each step away from the same bags."""
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
                cuts = {f"valid_{cut}": 0.9 - loss for cut in asked.cuts}
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


def verdicts(table: pandas.DataFrame) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in module().claims(table)}


@pytest.mark.parametrize("scale", SCALES)
def test_hidden_grammars_that_are_learned_are_reported(scale: str) -> None:
    found = verdicts(planted(scale))
    assert set(found.values()) == ({"not testable here"} if scale == "smoke" else {"reproduced"})
    variants = module().scale_variants(scale)
    each = sum(4 if kind["bags"] == "disjoint" else 7 for kind in variants.values())
    assert len(found) == each * (2 if scale == "paper" else 1)


@pytest.mark.parametrize("scale", SCALES[1:])
def test_what_is_lost_behind_bags_contradicts(scale: str) -> None:
    found = verdicts(planted(scale, lost=0.2))
    assert {verdict for name, verdict in found.items() if "explicit" in name} == {"contradicted"}
    assert {verdict for name, verdict in found.items() if "explicit" not in name} == {"reproduced"}


@pytest.mark.parametrize("scale", SCALES[1:])
def test_embeddings_that_do_not_gather_contradict(scale: str) -> None:
    found = verdicts(planted(scale, purity=0.4, gathered=-0.1))
    assert {verdict for name, verdict in found.items() if "explicit" not in name} == {"contradicted"}
    assert {verdict for name, verdict in found.items() if "explicit" in name} == {"reproduced"}


def test_untrained_embeddings_are_taken_off() -> None:
    table = planted("laptop")
    table.loc[(table["state"] == "untrained") & (table["statistic"] == "geometry"), "agreement"] = 0.9
    found = {name: verdict for name, verdict in verdicts(table).items() if "trained minus untrained" in name}
    assert len(found) == 2 and set(found.values()) == {"contradicted"}


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
