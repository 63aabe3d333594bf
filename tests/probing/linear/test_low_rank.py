"""Probes that may change the embedding: planted answers, noise, what only an update can read, people never shared."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.harness.run import RESERVED_COLUMNS
from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.knowledge.fact_probes import FactProbe, PProbe, QProbe
from probing.knowledge.probe_texts import first_word_ids, name_documents, value_ids
from probing.linear.logistic import logistic
from probing.linear.low_rank import LowRankProbes, ProbeBatch, fit_low_rank_probes, predict
from synth import UserError, get_task
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS
from synth.tasks.cfg import Cfg

TASK = BioS(
    people=120, permute=1, first=8, middle=8, last=8, years=4, months=4, days=2, cities=5, universities=4, majors=4,
    employers=6, templates=2,
)  # fmt: skip
WORLD = TASK.world(0)
P_QUICK = {"batch_size": 20, "head_updates": 120, "updates": 2, "lr": 2e-2, "weight_decay": 0.0}
Q_QUICK = {"batch_size": 30, "head_updates": 150, "updates": 10, "lr": 1e-2, "weight_decay": 0.0}


class Knowing(Decoder):
    """A model whose stream holds, from the end of the full name on, a number for every fact of the person: one-hot
    first words of the six values; before, or where it is `blank`, noise; if `personal`, a vector that says who it is.
    It has no blocks that would change it."""

    def __init__(self, blank: bool = False, personal: bool = False) -> None:
        width = 64
        super().__init__(ModelConfig(1, 1, width, mlp="none"), TASK.vocab().size)
        nn.init.zeros_(self.blocks[0].mixer.out.weight)
        nn.init.zeros_(self.blocks[0].mixer.out.bias)
        values, self.holds = first_word_ids(TASK, WORLD), torch.zeros(120, width)
        offset = 0
        for row in values:
            known, numbers = np.unique(row, return_inverse=True)
            self.holds[np.arange(120), offset + numbers] = 20.0
            offset += len(known)
        if personal:  # who it is, and nothing of the facts
            self.holds = 10.0 * torch.randn(120, width, generator=torch.Generator().manual_seed(0))
        self.blank = blank
        self.person = {tuple(text[1:4].tolist()): i for i, text in enumerate(name_documents(TASK, WORLD))}

    def embed_tokens(self, inputs: Tensor, index: Tensor | int) -> Tensor:
        states = torch.randn(*inputs.shape, 64, generator=torch.Generator().manual_seed(int(inputs.sum())))
        for row, tokens in zip(states, inputs.tolist(), strict=True):
            for t in range(len(tokens) - 2):
                person = self.person.get(tuple(tokens[t : t + 3]))
                if person is not None and not self.blank:
                    row[t + 2 :] += self.holds[person]
        return states


def accuracies(rows: list[dict]) -> np.ndarray:
    """(K, Y)"""
    found = np.array([row["accuracy"] for row in rows])
    return found.reshape(len({row["position"] for row in rows}), -1)


# ---- the instrument -------------------------------------------------------------------------------------------------
def batches(answer: list[int], contexts: int = 8) -> tuple[list[ProbeBatch], Tensor]:
    """So many random beginnings of 3 tokens below 8, each with all 8 after it; the label is the `answer` of that."""
    begun = torch.randint(0, 8, (contexts, 3), generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 0)
    last = torch.arange(8).repeat(contexts)
    labels = torch.tensor(answer)[last]
    tokens = torch.cat([begun, last[:, None]], 1)
    return [ProbeBatch(tokens, torch.full((len(tokens), 1), 3), labels[None, :, None])], labels


def looking(width: int = 16) -> Decoder:
    """One attention layer over 8 tokens, in which tokens 2i and 2i+1 have one embedding."""
    model = build(ModelConfig(1, 2, width, init_std=0.3), 8, 0)
    with torch.no_grad():
        model.embed.weight[1::2] = model.embed.weight[::2]
    return model


def test_what_the_embedding_does_not_tell_apart_only_an_update_reads() -> None:
    """Tokens with one embedding: no linear map of the states can say which of the two it was."""
    model, (asked, labels) = looking(), batches([0, 1] * 4)
    found = {}
    for rank in (0, 1):
        probes = LowRankProbes(model, [2], rank)
        losses = fit_low_rank_probes(probes, model, asked * 120, 120, lr=3e-2, weight_decay=0.0)
        right = predict(probes, model, asked)[0, :, 0] == labels.numpy()
        found[rank] = float(right.mean()), float(losses[-1, 0])
    assert found[0][0] == 0.5 and found[0][1] == pytest.approx(np.log(2), abs=0.01)
    assert found[1][0] == 1 and found[1][1] < 0.1


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_without_an_update_it_is_the_plain_linear_probe(norm: str) -> None:
    """Logistic regression on the normed last states, found by the exact solver of probing/linear/logistic.py."""
    model = build(ModelConfig(2, 2, 8, init_std=0.3), 8, 0)
    [clean], labels = batches([0, 1, 2, 0, 1, 2, 0, 1], 30)
    labels[::3] = torch.arange(80) % 3  # so that the best classifier is not infinitely sure
    asked = [ProbeBatch(clean.tokens, clean.positions, labels[None, :, None])]
    probes = LowRankProbes(model, [3], 0, norm, seed=1)  # type: ignore[arg-type]
    losses = fit_low_rank_probes(probes, model, asked * 300, 300, lr=5e-2, weight_decay=0.0)
    with torch.no_grad():
        context = model.make_context(4)
        states = model.norm(model.run_blocks(model.embed_tokens(asked[0].tokens, context.index), context))[:, 3]
        if norm == "layer":
            states = nn.functional.layer_norm(states, (8,))
        else:
            states = (states - states.mean(0)) / (states.var(0, unbiased=False) + 1e-5).sqrt()
    best = logistic(states[None], labels, 3, inverse_regularization=1e6)
    exact = nn.functional.cross_entropy(states.double() @ best.weight[0] + best.bias[0], labels)
    assert losses[-1, 0] == pytest.approx(float(exact), abs=1e-2)
    agree = predict(probes, model, asked)[0, :, 0] == best(states[None])[0].numpy()
    assert agree.mean() > 0.95


def test_the_update_is_of_the_embedding_that_is_read() -> None:
    """The same states as a model whose table is E + A B; by position 1 nothing of token 2 is known."""
    model = looking()
    probes = LowRankProbes(model, [2, 3], 2, seed=1)
    with torch.no_grad():
        probes.lora_a.normal_(generator=torch.Generator().manual_seed(2))
    tokens, positions = torch.tensor([[3, 1, 6, 6], [0, 0, 5, 2]]), torch.tensor([[1, 2], [2, 3]])
    found = probes(model, tokens, positions)
    assert found.shape == (2, 2, 2, 3) and (found[0, ..., 2] == -torch.inf).all()
    for y in range(2):
        other = looking()
        with torch.no_grad():
            other.embed.weight += probes.lora_a[y] @ probes.lora_b[y]
        # a rank-0 forward pass of the changed model, read with the head of question y
        same = probes(other, tokens, positions, with_update=False)
        torch.testing.assert_close(found[y], same[y], rtol=1e-4, atol=1e-4)
    changed = probes(model, tokens.index_fill(1, torch.tensor([2, 3]), 7), positions)
    torch.testing.assert_close(changed[:, 0, 0], found[:, 0, 0])


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_questions_do_not_depend_on_their_company(norm: str) -> None:
    model = looking()
    tokens = torch.randint(0, 8, (12, 4), generator=torch.Generator().manual_seed(0))
    positions, labels = torch.full((12, 1), 3), torch.stack([tokens[:, 0] % 2, tokens[:, 1] % 2])[..., None]
    pair, alone = (LowRankProbes(model, [2] * n, 2, norm) for n in (2, 1))  # type: ignore[arg-type]
    with torch.no_grad():
        for mine, theirs in zip(alone.parameters(), pair.parameters(), strict=True):
            mine.copy_(theirs[1:])
    both = fit_low_rank_probes(pair, model, [ProbeBatch(tokens, positions, labels)] * 60, 40, 20)
    one = fit_low_rank_probes(alone, model, [ProbeBatch(tokens, positions, labels[1:])] * 60, 40, 20)
    np.testing.assert_allclose(both[:, 1:], one, rtol=1e-3)
    assert (one[-1] < one[0]).all() and len(one) == 40


def test_the_model_stays_as_it_is_to_the_last_bit() -> None:
    model = build(ModelConfig(2, 2, 16), TASK.vocab().size, 0).train()
    model.blocks[0].mixer.out.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = model(torch.arange(12)[None])
    for probe in (PProbe(updates=3, batch_size=8), QProbe(updates=3, batch_size=8)):
        first = probe.measure(model, TASK, 0, 3)
        assert first == probe.measure(model, TASK, 0, 3) and first != probe.measure(model, TASK, 0, 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model(torch.arange(12)[None]), logits) and model.training
    trained = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert trained == {"blocks.0.mixer.out.weight"}
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- the P-probe and the Q-probe ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("probe", "shape"),
    [(PProbe(**P_QUICK), (6, 6)), (QProbe(**Q_QUICK), (1, 6)), (QProbe(**Q_QUICK, target="whole"), (1, 5))],
    ids=["P", "Q", "Q whole"],
)
def test_planted_facts_are_read_at_every_position(probe: FactProbe, shape: tuple[int, int]) -> None:
    rows = probe.measure(Knowing(), TASK, 0)
    known = accuracies(rows)
    assert known.shape == shape
    if probe.target == "first":  # 60 people teach a little besides: their months go with their cities, say
        assert known.min() >= 0.9 and known.mean() >= 0.98
    else:
        assert known.mean() >= 0.9
    for row in rows:
        assert row["n"] == row["groups"] == 60 and row["unseen"] == 0 and 0.1 < row["majority"] < 0.6, row


@pytest.mark.parametrize("probe", [PProbe(**P_QUICK), QProbe(**Q_QUICK)], ids=["P", "Q"])
def test_in_noise_nothing_is_read(probe: FactProbe) -> None:
    rows = probe.measure(Knowing(blank=True), TASK, 0)
    for row in rows:
        assert row["accuracy"] < row["majority"] + 0.2 and abs(row["mcc"]) < 0.35, row
    assert abs(np.mean([row["mcc"] for row in rows])) < 0.1


def test_who_it_is_does_not_tell_facts_of_people_never_learned_on() -> None:
    """The stream names the person: learned by heart for the first half, and of no use for the second."""
    rows = QProbe(**Q_QUICK).measure(Knowing(personal=True), TASK, 0)
    assert np.mean([row["loss"] for row in rows]) < 0.2
    assert abs(np.mean([row["mcc"] for row in rows])) < 0.15


@pytest.mark.parametrize("probe", [PProbe(**P_QUICK, shuffled=True), QProbe(**Q_QUICK, shuffled=True)], ids=["P", "Q"])
def test_facts_of_somebody_else_cannot_be_read(probe: FactProbe) -> None:
    assert abs(np.mean([row["mcc"] for row in probe.measure(Knowing(), TASK, 0)])) < 0.15


def test_positions_stand_before_the_values() -> None:
    """Over the text of five attribute orders, in words: what comes next begins a value, told says which came before."""
    from synth import Corpus

    corpus = Corpus(TASK, 0, "test")
    people, turns = np.arange(5), np.full(5, 3)
    texts = PProbe().make_text_source(corpus)(people, turns)
    block = corpus.render_items(people, turns)
    words = first_word_ids(TASK, WORLD)
    for i in range(5):
        full = block[i].tokens
        assert (np.diff(texts.positions[i]) > 0).all() and len(texts.documents[i]) == texts.positions[i, -1] + 1
        assert np.array_equal(full[: len(texts.documents[i])], texts.documents[i])
        for k, position in enumerate(texts.positions[i]):
            coming = [
                a
                for a in range(6)
                if texts.value_already_seen[i, k, a] < (texts.value_already_seen[i, k + 1, a] if k < 5 else True)
            ]
            assert texts.value_already_seen[i, k].sum() == k and len(coming) == 1
            assert full[position + 1] == words[coming[0], i]


def test_the_train_split_is_the_text_that_was_trained_on() -> None:
    from dataclasses import replace

    from synth import Corpus

    single = replace(TASK, wordings=1, permute=0)
    trained = {document.tobytes() for document in Corpus(single, 0).documents(0, 120).documents}
    probe = PProbe(split="train")
    texts = probe.make_text_source(Corpus(single, 0, probe.split))(np.arange(120), np.full(120, 2))
    whole = Corpus(single, 0, "train").render_items(np.arange(120), np.full(120, 2)).documents
    assert all(text.tobytes() in trained for text in whole)
    assert all(np.array_equal(text, full[: len(text)]) for text, full in zip(texts.documents, whole, strict=True))
    assert not texts.value_already_seen[:, 0].any() and (texts.value_already_seen[:, 5].sum(1) == 5).all()


def test_targets_by_hand() -> None:
    """The company's city follows the company, and two companies may share one; a month is a date's first word."""
    vocab, lists = TASK.lexicon.vocab, TASK.value_lists
    words, values = first_word_ids(TASK, WORLD), value_ids(TASK, WORLD)
    for person in (0, 7, 33):
        said = [" ".join(vocab.decode(list(TASK.value_ids(WORLD, person, a)))) for a in range(6)]
        assert [vocab.decode([words[a, person]])[0] for a in range(6)] == [text.split()[0] for text in said]
        assert lists.employers[WORLD.values[person, 4]].replace(",", " ,") == said[4]
    cities = np.array(lists.employer_cities)[WORLD.values[:, 4]]
    same = cities[:, None] == cities
    assert np.array_equal(same, values[5][:, None] == values[5])
    document = TASK.vocab().decode(name_documents(TASK, WORLD)[7])
    assert document[0] == "<bos>" and document[-1] == "<eos>" and len(document) == 5
    spelled = BioS(**{**{f.name: getattr(TASK, f.name) for f in fields(BioS)}, "codec": "byte"})
    assert len(name_documents(spelled, WORLD)[7]) > 10


def test_values_that_nobody_learned_on_has_are_left_out() -> None:
    rare = BioS(**{**{f.name: getattr(TASK, f.name) for f in fields(BioS)}, "people": 12, "cities": 200})
    model = build(ModelConfig(1, 2, 8), rare.vocab().size, 0)
    rows = {row["attribute"]: row for row in QProbe(4, "whole", updates=2, batch_size=4).measure(model, rare, 0)}
    values = value_ids(rare, rare.world(0))[1]
    unseen = sum(value not in values[:6] for value in values[6:])
    assert unseen > 0 and rows["birth city"]["unseen"] == unseen and rows["birth city"]["n"] == 6 - unseen


def test_questions_have_the_same_people() -> None:
    """As BioQuestions, the people learned on are its first half."""
    asked = BioQuestions(**{f.name: getattr(TASK, f.name) for f in fields(BioS)} | {"questions": 2})
    model = build(ModelConfig(1, 2, 8), asked.vocab().size, 0)
    first = {int(BioQuestions.split_items(asked, np.array([i]))[0][0]) for i in range(360)}
    assert first == set(range(60))
    rows = PProbe(updates=2, batch_size=4).measure(model, asked, 0)
    assert {row["n"] for row in rows} == {60}


def test_columns_and_cost() -> None:
    row = QProbe(4, updates=2, batch_size=4).measure(build(ModelConfig(1, 2, 8), TASK.vocab().size, 0), TASK, 0)[0]
    for probe in (PProbe(), QProbe()):
        assert not {f.name for f in fields(probe)} & (RESERVED_COLUMNS | row.keys())
    assert QProbe(updates=10, batch_size=20).tokens(TASK) == 5 * (20 * 2 * 6 * 10 + 6 * 60)
    assert PProbe(target="whole").tokens(TASK) == pytest.approx(30_000 * 50 * 10 * PProbe().length(TASK), rel=0.01)
    assert (PProbe().embed_rank, PProbe().batch_size, QProbe().embed_rank, QProbe().batch_size) == (2, 50, 16, 200)


@pytest.mark.parametrize(
    ("probe", "task", "size", "message"),
    [
        (QProbe(updates=1), get_task("bioD", people=40), 9, "^bioD is not about the people of bioS"),
        (QProbe(updates=1), Cfg("cfg3b"), 6, "is not about the people of bioS"),
        (PProbe(updates=1), TASK, 9, "^the model has 9 tokens and bioS needs .*; use the people"),
        (PProbe(embed_rank=17, updates=1), TASK, None, "^rank=17 is no rank of an embedding of .* x 16; lower it"),
        (PProbe(updates=1), BioS(people=3), None, "^people=3 leaves fewer than 2"),
    ],
)
def test_what_cannot_be_probed_is_one_line(probe: FactProbe, task, size: int | None, message: str) -> None:
    model = build(ModelConfig(1, 2, 16), size or task.vocab().size, 0)
    with pytest.raises(UserError, match=message):
        probe.measure(model, task, 0)


def test_what_no_probe_can_be_is_one_line() -> None:
    for wrong in ({"embed_rank": -1}, {"updates": 0}, {"batch_size": 1}, {"lr": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(UserError):
            QProbe(**wrong)  # type: ignore[arg-type]
    encoder = build(ModelConfig(1, 2, 16, causal=False), TASK.vocab().size + 1, 0)
    with pytest.raises(UserError, match="needs a causal model"):
        QProbe(updates=1).measure(encoder, TASK, 0)
    with pytest.raises(UserError, match="needs a Decoder"):
        QProbe(updates=1).measure(nn.Linear(2, 2), TASK, 0)
