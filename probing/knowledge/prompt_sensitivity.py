"""How much answers depend on the wording and spacing of the prompt: claim 3.8 of the ledger.

The same questions about the same people in each format of probing.knowledge.prompt_formats, scored as in
probing.knowledge.extraction.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probing.knowledge.extraction import ALL_ATTRIBUTES, Half, extraction_rows, first_questions, require_two_people
from probing.knowledge.prompt_formats import FORMATS, SlotFiller, reformat
from probing.knowledge.qa_data import make_question_task
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import TrainingData

if TYPE_CHECKING:
    import numpy as np

    from lm.model import Decoder
    from synth.tasks.bios import BioS


@dataclass(frozen=True)
class PromptSensitivity:
    """Extraction in each prompt format.

    people: number of people of the half (None: all). half, score_all_values: as in Extraction.
    """

    identity_name = "PromptFormats"

    people: int | None = 200
    half: Half = "second"
    score_all_values: bool = field(default=True, metadata={"identity": "candidates"})

    def __post_init__(self) -> None:
        require_two_people(self.people)

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement; most formats are about as long as the question."""
        question_task = make_question_task(task, self.half)
        people = min(self.people or question_task.people, question_task.people)
        return int(len(FORMATS) * people * len(ATTRIBUTES) * mean_length(question_task, "test"))

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """One row per format, with the columns of `extraction_rows` over all attributes.

        format: its name. kind: closeness to the training text. prompt: the first prompt. skipped: why the format cannot
        be written in the task's vocabulary, else empty. Raises UserError as Extraction does.
        """
        from probing.knowledge.qa_scoring import check_vocabulary, score_questions

        question_task = make_question_task(task, self.half)
        check_vocabulary(model, question_task)
        questions = first_questions(Corpus(question_task, data_seed, "test"), self.people)
        slots = SlotFiller(question_task, data_seed).fill_slots(questions.person_ids, questions.attribute_ids)
        rows = []
        for prompt_format in FORMATS:
            row: dict[str, Any] = {"format": prompt_format.name, "kind": prompt_format.kind_for(question_task)}
            try:
                formatted = reformat(question_task, prompt_format, questions, slots)
            except UserError as error:
                rows.append(row | {"prompt": "", "skipped": str(error)})
                continue
            first_prompt = formatted.documents[0][: formatted.prompt_lengths[0]]
            row |= {"prompt": _decode_prompt(question_task, first_prompt), "skipped": ""}
            scores = score_questions(model, formatted, self.score_all_values)
            by_attribute = extraction_rows(formatted, scores, seed, self.score_all_values)
            rows.append(row | next(r for r in by_attribute if r["attribute"] == ALL_ATTRIBUTES))
        return rows


def _decode_prompt(task: "BioS", ids: "np.ndarray") -> str:
    """Ids as text: decoded by the codec without <bos> and <eos>, or else the words separated by spaces."""
    if task.text_codec is None:
        return " ".join(task.vocab().decode(ids))
    special = (task.vocab().bos, task.vocab().eos)
    return task.text_codec.detokenize(task.vocab().decode([i for i in ids.tolist() if i not in special]))
