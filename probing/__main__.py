"""Plan how large a model must be for a set of facts, look into a trained run, or question any language model.

python -m probing plan --people 10000                 people as in Part 3.3: 47.6 bits each, and their names
python -m probing plan --people 500 --names 1e6 --values 12 28 100 --tokens-per-subject 15 --vocab-size 200
python -m probing plan --facts table.csv              a line a subject: name, attribute, attribute, ...
python -m probing plan --facts table.csv --exposures 300    between the exposures that were measured
python -m probing facts --output-dir runs/mine        what a model of the task facts stores and answers
python -m probing facts --output-dir runs/mine --ask "What is the symbol of Neon?"
python -m probing plan --facts triples.jsonl --json   [subject, attribute, value] a line
python -m probing show --run ID --sentence "((A+B)*(C-D))"    a web page: the tree that a model keeps, and the true one
python -m probing ask --run ID "Who was born on October 2, 1996?"    the answer, and which way it was found
python -m probing world-facts --model FOLDER          four tasks about real-world facts, put to a model of transformers
python -m probing world-facts --endpoint http://localhost:8000/v1 --name MODEL    or to one behind an address
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

PROG = "python -m probing"
TrustedCode = tyro.conf.UseAppendAction[tuple[Path, ...]]


@dataclass
class Plan:
    """Say how large a model, how many tokens and how much time a set of facts needs."""

    people: int | None = None
    """number of people, described as in bioS"""
    facts: Path | None = None
    """a .csv or .tsv table, or .jsonl triples, instead of --people"""
    names: float | None = None
    """number of names to draw from (bioS: 1.6e8)"""
    values: tuple[int, ...] | None = None
    """number of values of each attribute (bioS has six attributes)"""
    tokens_per_subject: float | None = None
    """tokens of one document about one subject (bioS: 80)"""
    vocab_size: int | None = None
    """distinct tokens (bioS: 3275)"""
    exposures: tuple[int, ...] = ()
    """exposures of each fact, within those measured; if not given those measured"""
    json: bool = False
    """print one JSON object instead of the table"""

    def run(self) -> str:
        from probing.capacity.planner import ModelRequirement, people_fact_set, read_fact_set, training_task
        from probing.capacity.scaling_law import interpolate, load_scaling_law
        from synth.errors import UserError

        settings: dict[str, Any] = {"tokens_per_subject": self.tokens_per_subject}
        if self.people is not None and self.facts is None:
            settings |= {"num_possible_names": self.names, "values_per_attribute": self.values}
            settings |= {"vocab_size": self.vocab_size}
            facts = people_fact_set(self.people, **{k: value for k, value in settings.items() if value is not None})
        elif self.facts is not None and self.people is None:
            for name in ("values", "vocab_size"):
                if getattr(self, name) is not None:
                    flag = f"--{name.replace('_', '-')}"
                    raise UserError(f"{flag} is counted from the file; leave it out or use --people")
            facts = read_fact_set(self.facts, self.names, self.tokens_per_subject)
        else:
            raise UserError("which facts? give either --people N or --facts FILE")
        law = load_scaling_law()
        points = [interpolate(law, times) for times in self.exposures] or law
        task = training_task(self.people, self.facts, custom=bool(self.names or self.values or self.vocab_size))
        if task is not None and self.facts is not None and self.tokens_per_subject is None:
            facts = replace(facts, tokens_per_subject=task.document_tokens)
        needs = [ModelRequirement(point, facts, task) for point in points]
        if self.json:
            rows = [need.row() for need in needs]
            return json.dumps({"bits": facts.bits, "subjects": facts.subjects, "needs": rows})
        from probing.capacity.planner_report import format_plan

        return format_plan(facts, needs)


@dataclass
class Facts:
    """Measure what a model trained on the task `facts` stores and what questions bring out, or ask it one."""

    output_dir: Path
    """the folder given to `python -m lm train facts`"""
    ask: str | None = None
    """a question to answer instead, in the words of those that it was trained on"""
    json: bool = False
    """print all columns as one JSON object"""

    def run(self) -> str:
        from lm.inference.commands import Trained
        from probing.capacity.own_facts import answer, format_facts, measure_facts, require_facts

        model, corpus = Trained(self.output_dir).read()
        task = require_facts(corpus.task)
        if self.ask is not None:
            return answer(model, task, self.ask)
        row = measure_facts(model, task, corpus.seed)
        return json.dumps(row) if self.json else format_facts(task, row)


@dataclass
class Show:
    """Write a web page of one sentence: the trees and the attention of a run on a grammar."""

    run_id: Annotated[str, tyro.conf.arg(name="run")]
    """the run's id, or the beginning of it, or its folder"""
    runs_dir: Path = Path("runs")
    """folder of runs"""
    sentence: str | None = None
    """terminals; without it, a sentence is drawn from the test split"""
    seed: int = 0
    """which sentence is drawn"""
    grammar: str | None = None
    """file of the run's grammar, if it came from a file"""
    probe_steps: int = 300
    """optimizer steps of the probes, which are fitted once for each run"""
    trust_code: TrustedCode = ()
    """file of your own mixer, where the model has one, one each time; its code runs only if named here"""
    output: Path = Path("tree.html")
    """the page to write"""

    def run(self) -> str:
        from probing.trained_runs import find_grammar_run

        found = find_grammar_run(self.run_id, self.runs_dir, self.grammar)  # fails before torch is loaded
        _trust(self.trust_code)
        from lm.pretrained import load
        from probing.tree_view import page_data
        from probing.tree_view.tree_reader import FitConfig, load_or_fit_tree_reader

        page_data.check_writable(self.output)
        grammar = found.task.world()
        words = None if self.sentence is None else page_data.parse_terminals(self.sentence, grammar)
        words = words or page_data.sample_sentence(found.task, found.data_seed, self.seed)
        model = load(found.model)
        page_data.check_length(model, grammar, len(words))
        weights, cache = found.model / "model.safetensors", found.folder / "probes"
        config = FitConfig(updates=self.probe_steps)
        reader = load_or_fit_tree_reader(model, weights, found.task, found.data_seed, config, cache)
        data = page_data.build_page_data(found, model, reader, words)
        page_data.write_page(self.output, page_data.html(data))
        lines = [" ".join(words), f"the page is {self.output}; open it in a browser"]
        if not data["truth"]:
            lines.append(f"this is no sentence of {grammar.name}: the page has no true tree to hold it against")
        return "\n".join(lines)


@dataclass
class Ask:
    """Answer questions about the people that a run on bioS has read about."""

    questions: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="QUESTION ...")]]
    """in words, each in quotes"""
    run_id: Annotated[str, tyro.conf.arg(name="run")]
    """the run's id, or the beginning of it, or its folder"""
    runs_dir: Path = Path("runs")
    """folder of runs"""
    trust_code: TrustedCode = ()
    """file of your own mixer, where the model has one, one each time; its code runs only if named here"""
    json: bool = False
    """print a JSON object a line instead of text"""

    def run(self) -> str:
        from probing.trained_runs import find_people_run
        from synth.errors import UserError

        if not self.questions:
            raise UserError('which question? give one in quotes, such as "Who was born in Reno, NV?"')
        found = find_people_run(self.run_id, self.runs_dir)
        _trust(self.trust_code)
        from lm.pretrained import load
        from probing.routed_qa.system import KnowledgeSystem

        system = KnowledgeSystem(load(found.model), found.task, found.data_seed)
        answers = list(zip(self.questions, system.answers(self.questions), strict=True))
        if self.json:
            return "\n".join(json.dumps({"question": question, **asdict(answer)}) for question, answer in answers)
        return "\n\n".join(f"{question}\n{answer.formatted}" for question, answer in answers)


@dataclass
class WorldFacts:
    """Put four tasks about real-world facts to any language model."""

    model: Path | None = None
    """folder of a causal model and its tokenizer, as saved by transformers"""
    endpoint: str | None = None
    """address of an OpenAI-compatible endpoint, instead of --model; a key is read from OPENAI_API_KEY"""
    name: str | None = None
    """what the endpoint calls the model"""
    num_examples: int | None = None
    """questions of each task; if not given, all"""
    max_new_tokens: int = 64
    """most tokens of an answer"""
    batch_size: int | None = None
    """questions at a time, requests in parallel to an endpoint; if not given, 16 for a folder, 4 for an endpoint"""
    timeout: float = 60.0
    """seconds to wait for one reply"""
    output: Path | None = None
    """file to which answers are written as they come; if not given, answers-NAME.jsonl"""
    trust_code: TrustedCode = ()
    """file of your own mixer, where the model has one, one each time; its code runs only if named here"""
    json: bool = False
    """print a JSON object a line instead of the table"""

    def run(self) -> str:
        from probing.world_facts.runner import run_benchmark

        self._check()
        _trust(self.trust_code)
        rows, path = run_benchmark(self._backend(), self.num_examples, self.output)
        if self.json:
            return "\n".join(json.dumps(row) for row in rows)
        from probing.world_facts.report import format_table

        return f"{format_table(rows)}\nevery question, answer and verdict: {path}"

    def _check(self) -> None:
        from synth.errors import UserError

        if (self.model is None) == (self.endpoint is None):
            raise UserError("which model? give either --model FOLDER or --endpoint URL")
        for name in ("num_examples", "max_new_tokens", "batch_size", "timeout"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UserError(f"--{name.replace('_', '-')} {value} must be above 0")
        if self.timeout > 1e6:
            raise UserError(f"--timeout {self.timeout:g} is longer than anyone waits; give seconds")
        if self.endpoint is not None and not self.name:
            raise UserError("--endpoint needs --name, as the endpoint calls the model")
        if self.model is not None and self.name:
            raise UserError("--name is for an --endpoint; a folder has one model")

    def _backend(self) -> Any:
        from probing.world_facts.hf_backend import HFBackend
        from probing.world_facts.openai_backend import OpenAIBackend

        if self.model is not None:
            return HFBackend(self.model, self.max_new_tokens, self.batch_size or 16)
        model, concurrency = (self.endpoint or "", self.name or "", self.max_new_tokens), self.batch_size or 4
        return OpenAIBackend(*model, timeout=self.timeout, max_concurrency=concurrency)


def _trust(paths: Sequence[Path]) -> None:
    from synth.user_code import trust

    for path in paths:
        trust(path)


COMMANDS: dict[str, type[Any]] = {"plan": Plan, "facts": Facts, "show": Show, "ask": Ask, "world-facts": WorldFacts}


def run(argv: Sequence[str] | None = None) -> str:
    """What a command line prints. Raises UserError on bad input."""
    from synth.commands.command_line import choose_command, parse

    name, rest = choose_command(PROG, __doc__ or "", COMMANDS, argv)
    return parse(COMMANDS[name], f"{PROG} {name}", rest, config=(tyro.conf.FlagCreatePairsOff,)).run()


def main() -> int:
    if sys.argv[1:2] == ["plan"]:
        os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported: the plan's time is that of one core
    from synth.commands.command_line import guarded

    on_interrupt = "the same command goes on" if sys.argv[1:2] == ["world-facts"] else "nothing was changed"
    return guarded(lambda: print(run()), on_interrupt)


if __name__ == "__main__":
    sys.exit(main())
