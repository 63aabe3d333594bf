"""Knowledge stored by a model in bits per parameter: R and R_max of Part 3.3 (arXiv 2404.05405), section 3.

    R = [ N log2(N0 / e^p1) + N sum_a log2(S_a / e^p2a) + K D log2(T^L / (D e^p3)) ] / P

p1, p2a, p3: loss in nats of the name, of the value of attribute a, and of a value's first chunk, each SUMMED over its
tokens and then averaged over people. N0, S_a, D, T^L: numbers of possible names, values of a, values in a list, and
strings. R_max has ln N for p1 and 0 for the others, as a model that knows everything. docs/capacity.md explains it.

A task provides `information_content(None)` (synth.bio.InformationContent), `attributes` (the names behind the numbers
of the label) and labels for the tokens of its documents:
    part       1 on the person's name, 2 on a value, 0 elsewhere;
    attribute  index in `attributes` of the value; attributes that are not in log2_values are not counted;
    chunk      index of the chunk of the value; only if information_content().sets > 0 (bioD).
Optional: `implied`, e.g. {"employer city": "employer"}. The city follows from the employer and is not counted, except
where it precedes the employer and so reveals part of it; the losses of both are then counted as one value.
`num_useful_items`: the first items, which are people whose facts are counted; the other items are not read.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log, log2
from typing import TYPE_CHECKING, Any

import numpy as np

from probing.capacity.fact_losses import FactLosses, average_fact_losses, nats_per_document
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.mixture import main_part
from synth.task import Block, TrainingData

if TYPE_CHECKING:
    from lm.model import Decoder
    from synth.bio import InformationContent

BITS_PER_PARAMETER_LIMIT = 2.0  # what a well-trained model can store; with less data, the data is the limit
CHUNK_DOCUMENTS = 1 << 14  # documents generated at a time, so that a million people need not fit into memory


class CapacityWarning(UserWarning):
    """The data is too small for the model, so that R measures the data and not the capacity."""


@dataclass(frozen=True)
class Capacity:
    """Bits per parameter that a model stores about the people of its task.

    people: number of people whose losses are measured (None: all; otherwise a random sample). split: templates of the
    texts; "train", the paper's, reads each person's first training document.
    """

    people: int | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if self.people is not None and self.people < 1:
            raise UserError(f"people={self.people} leaves nobody to ask for; give at least 1, or None for all")

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement."""
        return int(self._people(facts_of(task)) * mean_length(main_part(task), self.split))

    def measure(
        self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0, exposures: np.ndarray | None = None
    ) -> dict[str, Any]:
        """The columns of `capacity_metrics`, and people_read. With exposures (N,), the number of training documents
        about each person, also their mean (exposures), exposures_min and exposures_max.

        Warns (CapacityWarning) when R_max is below 2. Raises UserError for a task that does not count its facts.
        """
        from lm.model_size import count_parameters

        facts = facts_of(task)
        losses = self.fact_losses(model, task, data_seed)
        row = capacity_metrics(facts, losses, count_parameters(model)) | {"people_read": self._people(facts)}
        if exposures is not None:
            exposures = exposures[: getattr(task, "num_useful_items", facts.people)]
            row |= {"exposures": float(exposures.mean())}
            row |= {"exposures_min": int(exposures.min()), "exposures_max": int(exposures.max())}
        return row

    def fact_losses(self, model: "Decoder", task: TrainingData, data_seed: int) -> FactLosses:
        """The model's mean loss on names and on the values of each attribute."""
        from probing.scoring.likelihood import token_nats

        task = main_part(task)
        facts, corpus = facts_of(task), Corpus(task, data_seed, self.split)
        rows = []
        for start in range(0, self._people(facts), CHUNK_DOCUMENTS):
            block = first_documents(corpus, start, min(start + CHUNK_DOCUMENTS, self._people(facts)), labels=True)
            nats = token_nats(model, block.documents)
            rows.append(nats_per_document(nats, block, *_attribute_numbers(task, facts)))
        return average_fact_losses(np.concatenate(rows), list(countable_attributes(facts)))

    def _people(self, facts: "InformationContent") -> int:
        return min(self.people or facts.people, facts.people)


@dataclass(frozen=True)
class QuantizedCapacity:
    """Capacity of the model quantized to `weight_bits` bits (lm.transforms.quantize).

    calibration_documents: number of training documents for calibration. The other fields are those of `quantize` and of
    Capacity.
    """

    weight_bits: int
    method: str = "gptq"
    group_size: int = field(default=128, metadata={"identity": "group"})
    quantize_embeddings: bool = field(default=True, metadata={"identity": "tables"})
    calibration_documents: int = field(default=1000, metadata={"identity": "calibration"})
    people: int | None = None
    split: str = "train"

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement, without the calibration."""
        return Capacity(self.people, self.split).tokens(task)

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> dict[str, Any]:
        """The columns of Capacity.measure for a quantized copy of the model, with the same number of parameters."""
        from lm.transforms.quantize import quantize

        block = first_documents(Corpus(main_part(task), data_seed, "train"), 0, self.calibration_documents)
        method: Any = self.method  # checked by `quantize`
        documents, embeddings = block.documents, self.quantize_embeddings
        quantized = quantize(model, self.weight_bits, self.group_size, method, documents, embeddings)
        return Capacity(self.people, self.split).measure(quantized, task, data_seed, seed)


def first_documents(corpus: Corpus, start: int, stop: int, labels: bool = False) -> Block:
    """Documents start..stop-1 of the corpus; with `num_useful_items`, of those about useful people only."""
    useful = getattr(corpus.task, "num_useful_items", None)
    if useful is None:
        return corpus.documents(start, stop, labels)
    assert corpus.num_items is not None
    items = corpus.item_ids(0, corpus.num_items * -(-stop // useful))  # an epoch tells each useful person once
    numbers = np.flatnonzero(items < useful)[start:stop]
    return corpus.render_items(items[numbers], numbers // corpus.num_items, labels)


def facts_of(task: TrainingData) -> "InformationContent":
    """The information content of a task's people, in a mixture of its first part.

    Raises UserError for a task that does not count its facts.
    """
    task = main_part(task)
    if not hasattr(task, "information_content") or not hasattr(task, "attributes"):
        needed = "a task that counts its facts (information_content, attributes)"
        raise UserError(f"capacity needs {needed}; {task.name} does not")
    return task.information_content(None)


def countable_attributes(facts: "InformationContent") -> dict[str, float]:
    """Bits per person of each attribute that has more than one value."""
    return {name: bits for name, bits in facts.log2_values.items() if bits > 0}


def _attribute_numbers(task: Any, facts: "InformationContent") -> tuple[list[int], dict[int, int]]:
    """Label numbers of the counted attributes; and for each implied attribute that of the one that implies it."""
    number = task.attributes.index
    implied = {number(name): number(by) for name, by in getattr(task, "implied", {}).items()}
    return [number(name) for name in countable_attributes(facts)], implied


def capacity_metrics(facts: "InformationContent", losses: FactLosses, parameters: Mapping[str, int]) -> dict[str, Any]:
    """R and its components. parameters: the result of lm.count_parameters.

    r, r_max, r_share (r / r_max). r_non_embedding, r_active: the same bits per non-embedding and per active parameter.
    bits, bits_max: of all people. bits is bits_unclamped, clamped at 0 after summing, so that a component in which the
    model is worse than chance counts against the others. name_, value_, diversity_bits: the components, with their
    maxima _bits_max. name_nats, value_nats: losses per person; name_nats_chance, value_nats_chance: of a model that
    knows the distributions only (0 bits); name_nats_floor: of a model that knows everything (0 for values). For each
    attribute a: a_nats, a_bits and a_bits_max per person (below 0: worse than chance).
    """
    bits_by_part = _known_bits(facts, losses)
    max_by_part = {"name": facts.name_bits, "value": facts.value_bits, "diversity": facts.diversity_bits}
    unclamped, bits_max = sum(bits_by_part.values()), facts.bits
    bits = max(0.0, unclamped)
    row: dict[str, Any] = {"r": bits / parameters["total"], "r_max": bits_max / parameters["total"]}
    row |= {"r_share": bits / bits_max if bits_max else 0.0}
    row |= {f"r_{k}": bits / parameters[k] for k in ("non_embedding", "active")}
    row |= {f"parameters_{k}": parameters[k] for k in ("non_embedding", "active")}
    row |= {"bits": bits, "bits_max": bits_max, "bits_unclamped": unclamped}
    for part, part_bits in bits_by_part.items():
        row |= {f"{part}_bits": part_bits, f"{part}_bits_max": max_by_part[part]}
    row |= {"name_nats": losses.name, "name_nats_chance": facts.log2_names * log(2)}
    row |= {"name_nats_floor": log(facts.people), "value_nats": sum(losses.values.values())}
    row |= {"value_nats_chance": sum(facts.log2_values.values()) * log(2)}
    for name, max_bits in countable_attributes(facts).items():
        column = column_name(name)
        row |= {f"{column}_nats": losses.values[name], f"{column}_bits": max_bits - losses.values[name] / log(2)}
        row |= {f"{column}_bits_max": max_bits}
    if row["r_max"] < BITS_PER_PARAMETER_LIMIT:
        message = (
            f"R_max is {row['r_max']:.3g} bits per parameter, below {BITS_PER_PARAMETER_LIMIT:g}: the data cannot fill "
            "this model, so R shows the data and not the capacity; take more people, or at most "
            f"{int(bits_max / BITS_PER_PARAMETER_LIMIT)} parameters"
        )
        warnings.warn(message, CapacityWarning, stacklevel=2)
    return row


def column_name(attribute: str) -> str:
    """The attribute as it begins the names of columns: "birth_date"."""
    return attribute.replace(" ", "_")


def _known_bits(facts: "InformationContent", losses: FactLosses) -> dict[str, float]:
    """The three summands of the numerator of R, in bits."""
    known = [bits - losses.values[name] / log(2) for name, bits in countable_attributes(facts).items()]
    first_chunk = sum(losses.first_chunk_nats.values()) / max(len(losses.first_chunk_nats), 1)
    strings = facts.log2_strings - log2(facts.set_size) - first_chunk / log(2)
    return {
        "name": facts.people * (facts.log2_names - losses.name / log(2)),
        "value": facts.people * sum(known),
        "diversity": facts.sets * facts.set_size * strings,
    }
