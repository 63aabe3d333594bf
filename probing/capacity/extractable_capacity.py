"""How much of what a model stores it can be asked for: extractable capacity, Part 3.3 (arXiv 2404.05405), result 1.

A model that has read biographies is finetuned by LoRA (lm.transforms.lora) on questions about the first half of the
people and asked about the second half. In the formula of probing/capacity/bits_per_parameter.py the losses of values
are then those of the answers. Names stand in the questions, so nothing about them can be asked: their bits are those
read from the biographies. The pronoun is asked for by no question and the employer's city follows from the employer;
neither is counted. What the people asked about give on average is taken for everybody.
"""

from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np

from probing.capacity.bits_per_parameter import DOCUMENTS, Capacity, counted
from probing.knowledge.qa_data import Questions, questions_of
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import Task
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from lm.config import TrainConfig
    from lm.model import Decoder


@dataclass(frozen=True)
class ExtractableCapacity:
    """Bits per parameter that a model gives away when it is asked, by adapters of one pair of ranks.

    rank, embed_rank: of the adapters (lm.transforms.lora); the paper reports the best of nine pairs. The finetuning
    (qa_...) is the paper's by default, with a rate that falls linearly to 0, and trains on answers alone. people: whose
    names are read, and about how many of each half questions are asked (None: all).
    """

    rank: int = 8
    embed_rank: int = 128
    qa_steps: int = 75_000
    qa_batch: int = 96
    qa_window: int = 512
    qa_lr: float = 1e-3
    qa_weight_decay: float = 0.1
    people: int | None = None

    def __post_init__(self) -> None:
        self._training()

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads; one that is trained on counts as three."""
        second = questions_of(task, "second")
        people = second.people if self.people is None else min(2 * self.people, second.people)
        asked = len(ATTRIBUTES) * people * mean_length(second, "test")
        trained = 3 * self.qa_steps * self.qa_batch * self.qa_window
        return trained + Capacity(self.people).tokens(task) + int(asked)

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> dict[str, Any]:
        """Adapt a copy of the model, finetune it and ask it; the model itself stays as it is.

        The columns of `account_answers`, and extract_exact: the share of all six questions about held-out people that
        greedy decoding answers exactly, beside extract_exact_floor (the likeliest value) and extract_exact_trained (the
        people finetuned on, a control). Raises UserError for a task without people to ask about, or whose vocabulary
        has no words for questions, and when peft is not installed.
        """
        from lm.model_size import count_parameters
        from lm.training.loop import train
        from lm.transforms.lora import adapt

        if getattr(task, "half", "all") != "all":
            raise UserError("extractable capacity is that of everybody; pretrain on biographies with half=all")
        first, second = questions_of(task, "first"), questions_of(task, "second")
        stored = Capacity(self.people).measure(model, task, data_seed)
        adapted = adapt(model, self.rank, self.embed_rank, seed)
        train(adapted, first, self._training(), data_seed, seed, log_every=max(1, self.qa_steps // 100))
        nats, exact = answers(adapted, second, data_seed, self.people)
        row = account_answers(replace(second, half="all"), stored, nats, count_parameters(model)["total"])
        row |= {"extract_exact": exact, "extract_exact_floor": second.guess}
        return row | {"extract_exact_trained": answers(adapted, first, data_seed, self.people)[1]}

    def _training(self) -> "TrainConfig":
        from lm.config import TrainConfig

        return TrainConfig(
            self.qa_steps, self.qa_batch, self.qa_window, lr=self.qa_lr, weight_decay=self.qa_weight_decay
        )


def answers(
    model: "Decoder", task: BioQuestions, data_seed: int, people: int | None = None
) -> tuple[dict[str, float], float]:
    """What a model answers: for each counted attribute the loss of the value in nats, summed over its tokens and
    averaged over people, and the share of all questions whose answer, to its full stop, greedy decoding writes.

    Every question is asked once, in a phrasing drawn for the test split, or, given `people`, a random six for so many
    people. Raises UserError when those ask nothing about some attribute.
    """
    from probing.knowledge.qa_scoring import ask

    names = [name for name in ATTRIBUTES if name in counted(task.facts())]
    corpus = Corpus(task, data_seed, "test")
    items = corpus.items_of(0, _questions_asked(corpus, people))
    about, nats, right = task.who_and_what(items)[1], [], []
    for start in range(0, len(items), DOCUMENTS):
        told = ask(model, Questions.of(corpus, items[start : start + DOCUMENTS]), candidates=False)
        nats.append(told.nats)
        right.append(told.exact)
    losses = np.concatenate(nats)
    means = {name: losses[about == ATTRIBUTES.index(name)] for name in names}
    if silent := [name for name, found in means.items() if not len(found)]:
        raise UserError(f"no question asks for {silent[0]}; ask more people")
    return {name: float(found.mean()) for name, found in means.items()}, float(np.concatenate(right).mean())


def _questions_asked(corpus: Corpus, people: int | None) -> int:
    assert corpus.items is not None
    return min(corpus.items, len(ATTRIBUTES) * people) if people else corpus.items


def account_answers(task: BioS, stored: dict[str, Any], nats: dict[str, float], parameters: int) -> dict[str, float]:
    """Extractable capacity. stored: the columns of Capacity; nats: of `answers`.

    r_extract = (name bits + value bits from answers) / parameters, clamped at 0 once, after summing; r_stored: the same
    facts as read from biographies, that is r without the pronoun; r_extract_max: who knows and tells everything;
    r_extract_share = r_extract / r_stored (0 where nothing is stored). extract_value_bits of extract_value_bits_max: of
    all people; a_extract_bits of a_extract_bits_max: of attribute a of one person (below 0: worse than chance).
    """
    facts = task.facts()
    told = {name: counted(facts)[name] - nats[name] / log(2) for name in nats}
    most = {name: counted(facts)[name] for name in nats}
    read = [stored[f"{_column(name)}_bits"] for name in nats]
    value, value_max = facts.people * sum(told.values()), facts.people * sum(most.values())
    extract, kept = (max(0.0, stored["name_bits"] + bits) for bits in (value, facts.people * sum(read)))
    row = {"r_extract": extract / parameters, "r_extract_max": (facts.name_bits + value_max) / parameters}
    row |= {"r_stored": kept / parameters, "r_extract_share": extract / kept if kept else 0.0}
    row |= {"extract_value_bits": value, "extract_value_bits_max": value_max}
    for name in nats:
        row |= {f"{_column(name)}_extract_bits": told[name], f"{_column(name)}_extract_bits_max": most[name]}
    return row


def _column(name: str) -> str:
    return name.replace(" ", "_")
