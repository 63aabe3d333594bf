"""How many bits of its data a model holds, per parameter: R and R_max of Part 3.3 (arXiv 2404.05405), section 3.

    R = [ N log2(N0 / e^p1) + N sum_a log2(S_a / e^p2a) + K D log2(T^L / (D e^p3)) ] / P

p1, p2a, p3: loss in nats of the name, of the value of attribute a, and of a value's first chunk, each SUMMED over its
tokens and then averaged over people; N0, S_a, D, T^L: how many names, values and strings there were to choose from.
R_max has ln N for p1 and 0 for the others: what a model that knows all would reach. docs/capacity.md explains it.

A task says what it holds by `facts(None)` (synth.bio.Facts, a count that needs no world), `attributes` (the names
behind the numbers of the label) and the labels of its documents, aligned with the tokens:
    part       1 on the person's name, 2 on a value, 0 elsewhere;
    attribute  which of `attributes` a value belongs to; those without bits in facts.log2_values are not counted;
    chunk      which chunk of its value a token belongs to; only where facts.sets > 0 (bioD).
It may have `implied`, e.g. {"employer city": "employer"}: the city is no fact of its own, so it is not counted, except
where it is told before the employer and so gives part of it away; then both are counted as one value. It may have
`useful_items`, how many of its items, from the first on, are people whose facts are counted: the others are not read.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, log2
from typing import TYPE_CHECKING, Any

import numpy as np

from probing.capacity.fact_losses import Losses, average, nats_per_document
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.mixture import main_part
from synth.task import Block, Task

if TYPE_CHECKING:
    from lm.model import Decoder
    from synth.bio import Facts

ENOUGH = 2.0  # bits per parameter that a well-trained model can hold; with less to hold, the data is the limit
DOCUMENTS = 1 << 14  # read together, so that a million people need not fit into memory


class CapacityWarning(UserWarning):
    """The data is too small for the model, so that R tells of the data and not of the model."""


@dataclass(frozen=True)
class Capacity:
    """Bits per parameter that a model holds of its people.

    people: how many of them are asked for (None: all; else a random sample, as exposures come in random order); split:
    in which wording they are read; "train" is the paper's, the first exposure of everybody.
    """

    people: int | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if self.people is not None and self.people < 1:
            raise UserError(f"people={self.people} leaves nobody to ask for; give at least 1, or None for all")

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads, for the cost of a dry run."""
        return int(self._people(facts_of(task)) * mean_length(main_part(task), self.split))

    def measure(
        self, model: "Decoder", task: Task, data_seed: int, seed: int = 0, exposures: np.ndarray | None = None
    ) -> dict[str, Any]:
        """The columns of `account`, with `people_read`; given History.exposures (N,), also how often people were seen.

        Warns (CapacityWarning) when R_max is below 2. Raises UserError for a task that says nothing of its facts.
        """
        from lm.model_size import count_parameters

        facts = facts_of(task)
        losses = self.losses(model, task, data_seed)
        row = account(facts, losses, count_parameters(model)) | {"people_read": self._people(facts)}
        if exposures is not None:
            exposures = exposures[: getattr(task, "useful_items", facts.people)]
            row |= {"exposures": float(exposures.mean())}
            row |= {"exposures_min": int(exposures.min()), "exposures_max": int(exposures.max())}
        return row

    def losses(self, model: "Decoder", task: Task, data_seed: int) -> Losses:
        """What the model still does not know of each fact."""
        from probing.scoring.likelihood import token_nats

        task = main_part(task)
        facts, corpus = facts_of(task), Corpus(task, data_seed, self.split)
        rows = []
        for start in range(0, self._people(facts), DOCUMENTS):
            block = first_told(corpus, start, min(start + DOCUMENTS, self._people(facts)), labels=True)
            nats = token_nats(model, block.documents)
            rows.append(nats_per_document(nats, block, *_numbers(task, facts)))
        return average(np.concatenate(rows), list(counted(facts)))

    def _people(self, facts: "Facts") -> int:
        return min(self.people or facts.people, facts.people)


@dataclass(frozen=True)
class QuantizedCapacity:
    """Capacity after the weights were put on `weight_bits` bits (lm.transforms.quantize), calibrated on that many
    documents."""

    weight_bits: int
    method: str = "gptq"
    group: int = 128
    tables: bool = True
    calibration: int = 1000
    people: int | None = None
    split: str = "train"

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads; the calibration runs once for each of a block's four stages."""
        return Capacity(self.people, self.split).tokens(task)

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> dict[str, Any]:
        """The columns of Capacity.measure for the quantized copy; the parameters are counted as before."""
        from lm.transforms.quantize import quantize

        block = first_told(Corpus(main_part(task), data_seed, "train"), 0, self.calibration)
        documents = block.documents
        small = quantize(model, self.weight_bits, self.group, self.method, documents, self.tables)  # type: ignore[arg-type]
        return Capacity(self.people, self.split).measure(small, task, data_seed, seed)


def first_told(corpus: Corpus, start: int, stop: int, labels: bool = False) -> Block:
    """Documents start..stop-1 of the corpus, counting only those of useful people where the task has others too."""
    useful = getattr(corpus.task, "useful_items", None)
    if useful is None:
        return corpus.documents(start, stop, labels)
    assert corpus.items is not None
    items = corpus.items_of(0, corpus.items * -(-stop // useful))  # an epoch tells each useful person once
    numbers = np.flatnonzero(items < useful)[start:stop]
    return corpus.about(items[numbers], numbers // corpus.items, labels)


def facts_of(task: Task) -> "Facts":
    """What a task's people hold, in a mixture those of its first part. Raises UserError when it does not say."""
    task = main_part(task)
    if not hasattr(task, "facts") or not hasattr(task, "attributes"):
        raise UserError(f"capacity needs a task that counts its facts (facts, attributes); {task.name} does not")
    return task.facts(None)


def counted(facts: "Facts") -> dict[str, float]:
    """Bits of the attributes that can hold any: one with a single value need not be told."""
    return {name: bits for name, bits in facts.log2_values.items() if bits > 0}


def _numbers(task: Any, facts: "Facts") -> tuple[list[int], dict[int, int]]:
    """The label's numbers of the counted attributes, and of those that are implied and what by."""
    number = task.attributes.index
    implied = {number(told): number(by) for told, by in getattr(task, "implied", {}).items()}
    return [number(name) for name in counted(facts)], implied


def account(facts: "Facts", losses: Losses, parameters: Mapping[str, int]) -> dict[str, Any]:
    """R and all that it is made of. parameters: lm.count_parameters.

    r, r_max, r_share (r / r_max); r_non_embedding and r_active: the same bits over fewer parameters; bits, bits_max: of
    all people, not per parameter. bits is what remains of bits_unclamped at 0: the one clamp, after summing, so that a
    part in which the model is worse than chance counts against the others. name_, value_, diversity_bits: its three
    parts, with their _max. name_nats, value_nats: losses a person, beside _chance (knows which names and values there
    are and nothing else, 0 bits) and name_nats_floor (knows everything; a value's floor is 0). For each attribute a:
    a_nats, and a_bits of a_bits_max known a person (below 0: worse than chance).
    """
    parts = _parts(facts, losses)
    whole = {"name": facts.name_bits, "value": facts.value_bits, "diversity": facts.diversity_bits}
    unclamped, most = sum(parts.values()), facts.bits
    bits = max(0.0, unclamped)
    row: dict[str, Any] = {"r": bits / parameters["total"], "r_max": most / parameters["total"]}
    row |= {"r_share": bits / most if most else 0.0} | {
        f"r_{k}": bits / parameters[k] for k in ("non_embedding", "active")
    }
    row |= {f"parameters_{k}": parameters[k] for k in ("non_embedding", "active")}
    row |= {"bits": bits, "bits_max": most, "bits_unclamped": unclamped}
    for name in parts:
        row |= {f"{name}_bits": parts[name], f"{name}_bits_max": whole[name]}
    row |= {"name_nats": losses.name, "name_nats_chance": facts.log2_names * log(2)}
    row |= {"name_nats_floor": log(facts.people), "value_nats": sum(losses.values.values())}
    row |= {"value_nats_chance": sum(facts.log2_values.values()) * log(2)}
    for name, most_bits in counted(facts).items():
        column = name.replace(" ", "_")
        row |= {f"{column}_nats": losses.values[name], f"{column}_bits": most_bits - losses.values[name] / log(2)}
        row |= {f"{column}_bits_max": most_bits}
    _warn(row["r_max"], most)
    return row


def _parts(facts: "Facts", losses: Losses) -> dict[str, float]:
    """The three summands of R's numerator, in bits."""
    known = [bits - losses.values[name] / log(2) for name, bits in counted(facts).items()]
    first = sum(losses.firsts.values()) / max(len(losses.firsts), 1)
    strings = facts.log2_strings - log2(facts.set_size) - first / log(2)
    return {
        "name": facts.people * (facts.log2_names - losses.name / log(2)),
        "value": facts.people * sum(known),
        "diversity": facts.sets * facts.set_size * strings,
    }


def _warn(r_max: float, bits: float) -> None:
    if r_max < ENOUGH:
        warnings.warn(
            f"R_max is {r_max:.3g} bits per parameter, below {ENOUGH:g}: the data cannot fill this model, so R shows "
            f"the data and not the capacity; take more people, or at most {int(bits / ENOUGH)} parameters",
            CapacityWarning,
            stacklevel=3,
        )
