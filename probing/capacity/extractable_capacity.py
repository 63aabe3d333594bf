"""Extractable capacity, the part of the stored knowledge that questions extract: Part 3.3 (arXiv 2404.05405), result 1.

A model pretrained on biographies is finetuned, with LoRA (lm.transforms.lora) or in all weights, on questions about the
first half of the people and tested on the second half; biographies may be mixed in, so that finetuning does not
overwrite what it is to bring out. The formula of probing/capacity/bits_per_parameter.py is then applied with the
losses of the answers as losses of the values. Names are part of the questions, so their bits are those measured on
biographies. No question asks for the pronoun, and the employer's city follows from the employer; neither is counted.
The mean over the people asked about is taken for all people.
"""

import copy
from dataclasses import dataclass, field, replace
from math import log
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from probing.capacity.bits_per_parameter import CHUNK_DOCUMENTS, Capacity, column_name, countable_attributes
from probing.knowledge.qa_data import QuestionSet, make_question_task, num_questions
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.mixture import Mixture
from synth.task import TrainingData
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import biographies_of

if TYPE_CHECKING:
    from lm.config import TrainConfig
    from lm.model import Decoder
    from synth.bio import InformationContent


@runtime_checkable
class CountsFacts(Protocol):
    """A task that says how many bits its facts hold."""

    def information_content(self) -> "InformationContent": ...


@dataclass(frozen=True)
class ExtractableCapacity:
    """Extractable bits per parameter, with adapters of one pair of ranks.

    lora_rank, lora_embed_rank: of the adapters (lm.transforms.lora), rank 0 for all weights; the paper reports the best
    of nine pairs. qa_...: the finetuning, by default the paper's, with a learning rate that decreases linearly to 0 and
    a loss on answers only. people: number of people whose biographies are read, and of people of each half asked about
    (None: all). biography_share: share of the finetuning's rows that are biographies of everybody.
    """

    lora_rank: int = field(default=8, metadata={"identity": "rank"})
    lora_embed_rank: int = field(default=128, metadata={"identity": "embed_rank"})
    qa_steps: int = 75_000
    qa_batch: int = 96
    qa_window: int = 512
    qa_lr: float = 1e-3
    qa_weight_decay: float = 0.1
    people: int | None = None
    biography_share: float = field(default=0.0, metadata={"neutral": 0.0})

    def __post_init__(self) -> None:
        self._train_config()
        if self.lora_rank < 0 or (self.lora_embed_rank and not self.lora_rank):
            ranks = f"lora_rank={self.lora_rank}, lora_embed_rank={self.lora_embed_rank}"
            raise UserError(f"a finetuning cannot have {ranks}; give both ranks 0 for all weights, or lora_rank 1")
        if not 0 <= self.biography_share < 1:
            raise UserError(f"biography_share={self.biography_share:g} leaves no questions; give at least 0, below 1")

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement; a token of the finetuning counts three times."""
        second = make_question_task(task, "second")
        people = second.people if self.people is None else min(2 * self.people, second.people)
        question_tokens = len(ATTRIBUTES) * people * mean_length(second, "test")
        training_tokens = self.qa_steps * self.qa_batch * self.qa_window
        return 3 * training_tokens + Capacity(self.people).tokens(task) + int(question_tokens)

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> dict[str, Any]:
        """Finetune an adapted copy of the model and measure its answers; the model itself is not changed.

        The columns of `extractable_metrics`, and extract_exact: share of questions about held-out people that greedy
        decoding answers exactly; extract_exact_floor: of the most probable value; extract_exact_trained: of questions
        about the people finetuned on, a control. Raises UserError for a task without people or whose vocabulary has no
        words for questions, and if peft is not installed.
        """
        from lm.model_size import count_parameters
        from lm.training.loop import train

        if getattr(task, "half", "all") != "all":
            raise UserError("extractable capacity is that of everybody; pretrain on biographies with half=all")
        first, second = make_question_task(task, "first"), make_question_task(task, "second")
        stored = Capacity(self.people).measure(model, task, data_seed)
        adapted = self._copy_to_finetune(model, seed)
        data = self._finetuning_data(task, first)
        train(adapted, data, self._train_config(), data_seed, seed, log_every=max(1, self.qa_steps // 100))
        nats, exact = qa_losses(adapted, second, data_seed, self.people)
        row = extractable_metrics(replace(second, half="all"), stored, nats, count_parameters(model)["total"])
        row |= {"extract_exact": exact, "extract_exact_floor": second.chance_accuracy}
        return row | {"extract_exact_trained": qa_losses(adapted, first, data_seed, self.people)[1]}

    def _copy_to_finetune(self, model: "Decoder", seed: int) -> "Decoder":
        from lm.transforms.lora import add_lora

        if not self.lora_rank:
            return copy.deepcopy(model).train()
        return add_lora(model, self.lora_rank, self.lora_embed_rank, seed)

    def _finetuning_data(self, task: TrainingData, questions: BioQuestions) -> TrainingData:
        if not self.biography_share:
            return questions
        return Mixture((biographies_of(task), questions), (self.biography_share, 1 - self.biography_share))

    def _train_config(self) -> "TrainConfig":
        from lm.config import TrainConfig

        decay = self.qa_weight_decay
        return TrainConfig(self.qa_steps, self.qa_batch, self.qa_window, lr=self.qa_lr, weight_decay=decay)


def qa_losses(
    model: "Decoder", task: BioQuestions, data_seed: int, people: int | None = None
) -> tuple[dict[str, float], float]:
    """For each counted attribute the loss of the value (nats, summed over tokens, mean over people); and the share of
    questions that greedy decoding answers exactly, with the full stop.

    Each question is asked once, in a phrasing of the test split; with `people`, a random sample of 6 * people
    questions. Raises UserError if the sample has no question about some attribute.
    """
    from probing.knowledge.qa_scoring import score_questions

    names = [name for name in ATTRIBUTES if name in countable_attributes(task.information_content())]
    corpus = Corpus(task, data_seed, "test")
    items = corpus.item_ids(0, num_questions(corpus, people))
    attribute_ids, nats, exact = task.split_items(items)[1], [], []
    for start in range(0, len(items), CHUNK_DOCUMENTS):
        questions = QuestionSet.from_corpus(corpus, items[start : start + CHUNK_DOCUMENTS])
        scores = score_questions(model, questions, score_all_values=False)
        nats.append(scores.value_nats)
        exact.append(scores.exact_match)
    losses = np.concatenate(nats)
    by_attribute = {name: losses[attribute_ids == ATTRIBUTES.index(name)] for name in names}
    if missing := [name for name, values in by_attribute.items() if not len(values)]:
        raise UserError(f"no question asks for {missing[0]}; ask more people")
    return {name: float(values.mean()) for name, values in by_attribute.items()}, float(np.concatenate(exact).mean())


def extractable_metrics(
    task: CountsFacts, stored: dict[str, Any], nats: dict[str, float], parameters: int
) -> dict[str, float]:
    """Extractable capacity. stored: the columns of Capacity. nats: the losses of `qa_losses`.

    r_extract: (name bits + value bits of the answers) / parameters, clamped at 0 after summing. r_stored: the same
    facts measured on biographies, that is r without the pronoun. extract_bits_unclamped, stored_bits_unclamped: their
    numerators before the clamp. r_extract_max: of a model that answers everything.
    r_extract_share: r_extract / r_stored (0 if nothing is stored). extract_value_bits, extract_value_bits_max: of all
    people. For each attribute a: a_extract_bits, a_extract_bits_max per person (below 0: worse than chance).
    """
    facts = task.information_content()
    max_bits = {name: countable_attributes(facts)[name] for name in nats}
    bits = {name: max_bits[name] - nats[name] / log(2) for name in nats}
    stored_bits = [stored[f"{column_name(name)}_bits"] for name in nats]
    value, value_max = facts.people * sum(bits.values()), facts.people * sum(max_bits.values())
    unclamped = [stored["name_bits"] + v for v in (value, facts.people * sum(stored_bits))]
    extracted, known = (max(0.0, bits) for bits in unclamped)
    row = dict(zip(("extract_bits_unclamped", "stored_bits_unclamped"), unclamped, strict=True))
    row |= {"r_extract": extracted / parameters, "r_extract_max": (facts.name_bits + value_max) / parameters}
    row |= {"r_stored": known / parameters, "r_extract_share": extracted / known if known else 0.0}
    row |= {"extract_value_bits": value, "extract_value_bits_max": value_max}
    for name in nats:
        column = column_name(name)
        row |= {f"{column}_extract_bits": bits[name], f"{column}_extract_bits_max": max_bits[name]}
    return row
