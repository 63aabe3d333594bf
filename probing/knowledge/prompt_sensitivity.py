"""How much an answer depends on the wording and the spacing of its question: claim 3.8 of the ledger.

The same questions about the same people in every format of probing.knowledge.prompt_formats, judged as in
probing.knowledge.extraction.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probing.knowledge.extraction import EVERY, Half, check_people, drawn, tallied
from probing.knowledge.prompt_formats import FORMATS, Slots, put
from probing.knowledge.qa_data import questions_of
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import Task

if TYPE_CHECKING:
    import numpy as np

    from lm.model import Decoder
    from synth.tasks.bios import BioS


@dataclass(frozen=True)
class PromptFormats:
    """All six questions about some people in every format.

    people: how many of the half are asked about (None: all); half, candidates: as in Extraction.
    """

    people: int | None = 200
    half: Half = "second"
    candidates: bool = True

    def __post_init__(self) -> None:
        check_people(self.people)

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads: formats are as long as questions, but for a few."""
        asked = questions_of(task, self.half)
        people = min(self.people or asked.people, asked.people)
        return int(len(FORMATS) * people * len(ATTRIBUTES) * mean_length(asked, "test"))

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each format: format, kind (of closeness to training), prompt (the first one), skipped (why it
        cannot be asked, else empty), and the columns of probing.knowledge.extraction.tallied over all attributes.

        Raises UserError as Extraction does.
        """
        from probing.knowledge.qa_scoring import ask, check_model

        asked = questions_of(task, self.half)
        check_model(model, asked)
        questions = drawn(Corpus(asked, data_seed, "test"), self.people)
        slots = Slots(asked, data_seed).of(questions.people, questions.about)
        rows = []
        for format in FORMATS:
            row: dict[str, Any] = {"format": format.name, "kind": format.kind_for(asked)}
            try:
                formatted = put(asked, format, questions, slots)
            except UserError as error:
                rows.append(row | {"prompt": "", "skipped": str(error)})
                continue
            row |= {"prompt": _shown(asked, formatted.documents[0][: formatted.prompts[0]]), "skipped": ""}
            answers = ask(model, formatted, self.candidates)
            found = tallied(formatted, answers, seed, self.candidates)
            rows.append(row | next(one for one in found if one["attribute"] == EVERY))
        return rows


def _shown(task: "BioS", ids: "np.ndarray") -> str:
    """Ids as a reader sees them: the text that a codec spells, or words with spaces between."""
    if task.speller is None:
        return " ".join(task.vocab().decode(ids))
    special = (task.vocab().bos, task.vocab().eos)
    return task.speller.text_of(task.vocab().decode([i for i in ids.tolist() if i not in special]))
