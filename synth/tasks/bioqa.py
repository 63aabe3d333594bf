"""Questions about the people of bioS, each answered as "Answer: VALUE." (Part 3.1, arXiv 2309.14316, section 2.2)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synth.bio.tables import BY_NAME
from synth.bio.value_lists import ATTRIBUTES
from synth.errors import UserError
from synth.random.rng import below, words
from synth.task import Block, Example
from synth.tasks.bios import BioS, Half, World


@dataclass(frozen=True)
class BioQuestions(BioS):
    """The fields of BioS, with the same people and, for equal fields, the same vocabulary. An item is one of the six
    questions about one person, in a phrasing drawn anew for every exposure. half: whom the questions are about, so that
    a model can be taught on the first half of the people and examined on the second; only_answers: the question is
    not trained on.
    """

    questions: int = 4
    half: Half = "all"  # without BioS's neutral value: it was a field here first, and ids of results hold it
    only_answers: bool = True

    name: ClassVar[str] = "bioS-qa"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.1 (arXiv 2309.14316), section 2.2"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.questions < 1:
            raise UserError("bioS-qa: questions=0 leaves nothing to ask; give at least 1 phrasing")

    def items(self, world: World) -> int:
        return len(ATTRIBUTES) * super().items(world)

    def who_and_what(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The person and the attribute (n,) that each item asks about."""
        return self.span[0] + items // len(ATTRIBUTES), items % len(ATTRIBUTES)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Questions with their answers, end to end; the prompt is everything up to "Answer :"."""
        people, about = self.who_and_what(items)
        phrasing = below(words((*stream, "question"), epochs, items, 1)[:, 0], self.questions)
        sentences = (self.kit.questions + about * self.questions + phrasing)[:, None]
        wording = (sentences, about[:, None], np.full((len(items), 1), BY_NAME))
        block = self.write(world, people, wording, labels, prompt="value")
        mask = self._answers(block) if self.only_answers else block.loss_mask
        slices = {**block.slices, "attribute": np.array(ATTRIBUTES)[about]}
        return Block(block.tokens, block.offsets, mask, block.prompt_lengths, slices, block.labels)

    @staticmethod
    def _answers(block: Block) -> np.ndarray:
        starts = np.repeat(block.offsets[:-1] + block.prompt_lengths, block.lengths)
        return np.arange(len(starts)) >= starts

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """exact: 1 when the completion is the true value, then ".", then nothing or <eos>."""
        if example is None:
            raise UserError("bioS-qa: an answer is judged by its question; give the index of its document")
        truth = example.tokens[example.prompt_length : -1].tolist()
        said = np.asarray(completion).tolist()
        return {"exact": float(said == truth or said == [*truth, self.vocab().eos])}

    def floors(self, world: World) -> dict[str, float]:
        """exact: the likeliest value of each attribute; loss: 0 on answers; bits: as in bioS."""
        return {"exact": self.guess, "loss": 0.0, "bits": self.facts().bits}
