"""Questions about the facts of bioS (Part 3.1, arXiv 2309.14316, section 2.2)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synth.bio.tables import BY_NAME
from synth.bio.value_lists import ATTRIBUTES
from synth.errors import UserError
from synth.random.rng import bounded_integers, random_uint64
from synth.task import Block, Example
from synth.tasks.bios import BioS, Half, World


@dataclass(frozen=True)
class BioQuestions(BioS):
    """Questions about the facts of bioS, in a fresh phrasing for every exposure.

    Example: `<bos> Where did Julia Cassandra Bell study ? Answer : University of Newark . <eos>`. An item is one of the
    six questions about one person. With equal fields of BioS, people and vocabulary are those of BioS, so a model can
    be finetuned on the first half of the people and evaluated on the second.
    Source: Part 3.1 (arXiv 2309.14316), section 2.2.
    Floors: exact of the most likely values, loss = 0 on answers, bits as BioS.
    """

    questions: int = 4
    """Phrasings per question."""
    half: Half = "all"  # without BioS's neutral value: it was a field here first, and ids of results hold it
    """People whom the questions are about."""
    only_answers: bool = True
    """Train on the answers alone, not on the questions."""

    name: ClassVar[str] = "bioS-qa"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.1 (arXiv 2309.14316), section 2.2"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.questions < 1:
            raise UserError("bioS-qa: questions=0 leaves nothing to ask; give at least 1 phrasing")

    def num_items(self, world: World) -> int:
        return len(ATTRIBUTES) * super().num_items(world)

    def split_items(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The person (n,) and the attribute (n,) of each item."""
        return self.people_range[0] + items // len(ATTRIBUTES), items % len(ATTRIBUTES)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Questions with their answers; the prompt ends with "Answer :"."""
        people, about = self.split_items(items)
        phrasing = bounded_integers(random_uint64((*stream, "question"), epochs, items, 1)[:, 0], self.questions)
        sentences = (self.lexicon.questions + about * self.questions + phrasing)[:, None]
        wording = (sentences, about[:, None], np.full((len(items), 1), BY_NAME))
        block = self.write_documents(world, people, wording, labels, prompt="value")
        mask = self._answer_mask(block) if self.only_answers else block.loss_mask
        slices = {**block.slices, "attribute": np.array(ATTRIBUTES)[about]}
        return Block(block.tokens, block.offsets, mask, block.prompt_lengths, slices, block.labels)

    @staticmethod
    def _answer_mask(block: Block) -> np.ndarray:
        starts = np.repeat(block.offsets[:-1] + block.prompt_lengths, block.lengths)
        return np.arange(len(starts)) >= starts

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """exact: 1 if the completion is the true value, ".", and at most <eos>."""
        if example is None:
            raise UserError("bioS-qa: an answer is judged by its question; give the index of its document")
        truth = example.tokens[example.prompt_length : -1].tolist()
        ids = np.asarray(completion).tolist()
        return {"exact": float(ids == truth or ids == [*truth, self.vocab().eos])}

    def floors(self, world: World) -> dict[str, float]:
        """exact: of the most likely value of each attribute; loss: 0 on answers; bits: as in bioS."""
        return {"exact": self.chance_accuracy, "loss": 0.0, "bits": self.information_content().bits}
