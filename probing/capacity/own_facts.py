"""What a model knows of facts of one's own: bits stored (Part 3.3, 2404.05405) and answers (Part 3.1, 2309.14316).

The model was trained on texts about all subjects of the task `facts` and on questions about one half (`asked`). The
answers about the other half, which no question in training was about, say what can be extracted.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from probing.capacity.bits_per_parameter import Capacity, CapacityWarning, countable_attributes
from probing.capacity.extractable_capacity import extractable_metrics
from synth.bio.world import VALUE_PART
from synth.corpus import Corpus
from synth.errors import UserError
from synth.mixture import main_part
from synth.task import TrainingData
from synth.tasks.facts import FactQuestions, Facts, Half

if TYPE_CHECKING:
    from lm.model import Decoder

HELD_OUT: dict[str, tuple[Half, Half]] = {"first": ("first", "second"), "second": ("second", "first")}


def require_facts(task: TrainingData) -> Facts:
    """The task of texts in training data. Raises UserError if there is none."""
    main = main_part(task)
    if not isinstance(main, Facts) or isinstance(main, FactQuestions):
        raise UserError(f"the model was trained on {main.name}; train on facts, with a table of your own")
    return main


def measure_facts(model: "Decoder", task: Facts, data_seed: int) -> dict[str, Any]:
    """The columns of Capacity; frequency_bits, what knowing only how frequent each value is would be credited with; and
    where questions about one half were trained on, and texts about everybody, those of `extractable_metrics`.

    extract_exact: share of questions about the half held out that are answered exactly (greedy decoding);
    extract_exact_floor: of the most frequent values; extract_exact_trained: of the half trained on.
    """
    from lm.model_size import count_parameters

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)  # R_max stands beside R
        row = Capacity().measure(model, task, data_seed) | {"frequency_bits": task.frequency_bits()}
    if task.asked not in HELD_OUT or task.half != "all":
        return row
    taught, held_out = (task.as_questions(half) for half in HELD_OUT[task.asked])
    nats, exact = answer_questions(model, held_out, data_seed)
    row |= extractable_metrics(task, row, nats, count_parameters(model)["total"])
    row |= {"extract_exact": exact, "extract_exact_floor": task.chance_accuracy}
    return row | {"extract_exact_trained": answer_questions(model, taught, data_seed)[1]}


def answer_questions(model: "Decoder", questions: FactQuestions, data_seed: int) -> tuple[dict[str, float], float]:
    """For each counted attribute the loss of the answer (nats, summed over its tokens, mean over subjects), and the
    share of questions that greedy decoding answers exactly. Each question is asked once."""
    from probing.scoring.likelihood import argmax_and_log_probabilities

    corpus = Corpus(questions, data_seed, "test")
    block = corpus.documents(0, questions.num_items(corpus.world), labels=True)
    losses: dict[str, list[float]] = {name: [] for name in questions.attributes}
    exact = []
    for i, (is_argmax, log_probs) in enumerate(argmax_and_log_probabilities(model, block.documents)):
        value = block[i].labels["part"][1:] == VALUE_PART
        losses[str(block.slices["attribute"][i])].append(-float(log_probs[value].astype(np.float64).sum()))
        exact.append(is_argmax[block.prompt_lengths[i] - 1 : -1].all())  # the value and the full stop, without <eos>
    counted = countable_attributes(questions.information_content())
    return {name: float(np.mean(losses[name])) for name in counted}, float(np.mean(exact))


def answer(model: "Decoder", task: Facts, question: str) -> str:
    """The model's answer to a question by greedy decoding. Raises UserError for words that it does not know."""
    from lm.inference.sampling import generate, no_progress

    vocab, prompt = task.vocab(), task.encode_question(question)
    longest = max(len(value) for column in task.table.columns for value in column)
    (ids,) = generate(model, [prompt], longest + 2, 0.0, vocab.eos, progress=no_progress)
    return " ".join(vocab.decode(ids[(ids > vocab.bos) & (ids < vocab.eos)])).removesuffix(" .")


def format_facts(task: Facts, row: dict[str, Any]) -> str:
    """The text that `python -m probing facts` prints."""
    spared = row["frequency_bits"]
    lines = [
        f"stored      {row['bits']:.0f} of {row['bits_max']:.0f} bits ({100 * row['r_share']:.0f}%); "
        f"{row['r']:.3g} bits per parameter, at most {row['r_max']:.3g}",
        f"by chance   {spared:.0f} bits: who knows how frequent each value is, and no subject",
    ]
    if "extract_exact" not in row:
        hint = "train with --asked first to ask about the others"
        return "\n".join([*lines, f"answers     not asked: no half of the subjects is held out; {hint}"])
    kept = np.clip(row["extract_value_bits"] / max(row["extract_value_bits_max"], 1e-9), None, 1)
    lines += [
        f"answers     {100 * row['extract_exact']:.0f}% right about the half held out "
        f"(the most frequent values: {100 * row['extract_exact_floor']:.0f}%; "
        f"the half asked about in training: {100 * row['extract_exact_trained']:.0f}%)",
        f"extracted   {row['extract_value_bits']:.0f} of {row['extract_value_bits_max']:.0f} bits of values "
        f"({100 * kept:.0f}%), by the answers' loss; below 0: surely wrong",
    ]
    return "\n".join(lines)
