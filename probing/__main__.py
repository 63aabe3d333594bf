"""python -m probing plan: how large a model and how much training a set of facts needs; show: the tree of a sentence;
ask: what a model knows of its people, with a database and steps beside it; questions: any language model, about the
real world.

python -m probing plan --people 10000                 people as in Part 3.3: 47.6 bits each, and their names
python -m probing plan --people 500 --names 1e6 --values 12 28 100 --tokens 15 --vocabulary 200
python -m probing plan --facts table.csv              a line a subject: name, attribute, attribute, ...
python -m probing plan --facts triples.jsonl --json   [subject, attribute, value] a line
python -m probing show --run ID --sentence "((A+B)*(C-D))"    a web page: the tree that a model keeps, and the true one
python -m probing ask --run ID "Who was born on October 2, 1996?"    the answer, and which way it was found
python -m probing questions --model FOLDER            four tasks about real-world facts, put to a model of transformers
python -m probing questions --endpoint http://localhost:8000/v1 --name MODEL    or to one behind an address
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _Parser("python -m probing", description=__doc__, formatter_class=_Plain)
    commands = top.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _add_plan(commands)
    _add_show(commands)
    _add_ask(commands)
    _add_questions(commands)
    return top


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser("plan", help="size, tokens and time for facts")
    what = plan.add_mutually_exclusive_group(required=True)
    what.add_argument("--people", type=int, metavar="N", help="so many people, told of as bioS does")
    what.add_argument("--facts", type=Path, metavar="FILE", help="a .csv or .tsv table, or .jsonl triples")
    plan.add_argument("--names", type=float, help="how many names there are to draw from (bioS: 1.6e8)")
    plan.add_argument("--values", type=int, nargs="+", help="how many values each attribute has (bioS: six of them)")
    plan.add_argument("--tokens", type=float, help="tokens of one telling of one subject (bioS: 80)")
    plan.add_argument("--vocabulary", type=int, help="distinct tokens (bioS: 3275)")
    plan.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="a web page of one sentence: trees and attention")
    show.add_argument(
        "--run", required=True, metavar="ID", help="a run on a grammar: its id, or enough of it, or its folder"
    )
    show.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where the runs are (runs)")
    show.add_argument("--sentence", metavar="TEXT", help="terminals; without it, one is drawn from the test split")
    show.add_argument("--seed", type=int, default=0, help="which sentence is drawn (0)")
    show.add_argument("--grammar", metavar="FILE", help="where the run's grammar is, if it came from a file")
    show.add_argument("--updates", type=int, default=300, help="of the probes, fitted once for each run (300)")
    _add_trust(show)
    show.add_argument("--out", type=Path, default=Path("tree.html"), metavar="FILE", help="the page (tree.html)")


def _add_ask(commands: Any) -> None:
    ask = commands.add_parser("ask", help="a question about the people that a model has read about")
    ask.add_argument("question", nargs="+", help="in words; several, each in quotes, are answered one after another")
    ask.add_argument("--run", required=True, metavar="ID", help="a run on bioS: its id, or enough of it, or its folder")
    ask.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where the runs are (runs)")
    _add_trust(ask)
    ask.add_argument("--json", action="store_true", help="a JSON object a line instead of text")


def _add_questions(commands: Any) -> None:
    asked = commands.add_parser("questions", help="four tasks about real-world facts, for any language model")
    who = asked.add_mutually_exclusive_group(required=True)
    who.add_argument("--model", type=Path, metavar="FOLDER", help="a causal model and its tokenizer, as saved")
    who.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible; a key is read from OPENAI_API_KEY")
    _add_trust(asked)
    asked.add_argument("--name", help="how the endpoint calls the model")
    asked.add_argument("--n", type=int, help="questions of each task (all)")
    asked.add_argument("--tokens", type=int, default=64, help="how many an answer may have (64)")
    asked.add_argument("--batch", type=int, help="questions at a time (16 for a folder, 4 for an endpoint)")
    asked.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for one reply (60)")
    asked.add_argument(
        "--out", type=Path, metavar="FILE", help="where answers are kept as they come (answers-NAME.jsonl)"
    )
    asked.add_argument("--json", action="store_true", help="a JSON object a line instead of the table")


def _add_trust(command: Any) -> None:
    command.add_argument("--trust", type=Path, action="append", default=[], metavar="FILE.py",
                         help="your own mixer, where the model has one: its code runs only if named here")  # fmt: skip


def _trust(options: argparse.Namespace) -> None:
    from synth.registry import trust

    for path in options.trust:
        trust(path)


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors; --help needs nothing of synth, which brings numpy in."""

    def error(self, message: str) -> NoReturn:
        from synth.commands.command_line import complain

        complain(message)
        raise SystemExit(2)


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


def show(options: argparse.Namespace) -> str:
    """Writes the page and says where it is. Raises UserError on a run, sentence or file that will not do."""
    from probing.trained_runs import find

    found = find(
        options.run, options.runs, options.grammar
    )  # what is quickly found wrong is said before torch comes in
    _trust(options)
    from lm.pretrained import load
    from probing.tree_view import html
    from probing.tree_view.tree_reader import Effort, tree_reader

    html.check_writable(options.out)
    grammar = found.task.world()
    words = None if options.sentence is None else html.terminals_of(options.sentence, grammar)
    words = words or html.drawn(found.task, found.data_seed, options.seed)
    model = load(found.model)
    html.check_length(model, grammar, len(words))
    weights, kept = found.model / "model.safetensors", found.folder / "probes"
    reader = tree_reader(model, weights, found.task, found.data_seed, Effort(updates=options.updates), kept)
    data = html.contents(found, model, reader, words)
    html.write(options.out, html.html(data))
    note = (
        ""
        if data["truth"]
        else f"\nthis is no sentence of {grammar.name}: the page has no true tree to hold it against"
    )
    return f"{' '.join(words)}\nthe page is {options.out}; open it in a browser{note}"


def ask(options: argparse.Namespace) -> str:
    """Each question with its answer, the way and the steps. Raises UserError on a run that will not do."""
    from probing.trained_runs import find_people

    found = find_people(options.run, options.runs)
    _trust(options)
    from dataclasses import asdict

    from lm.pretrained import load
    from probing.routed_qa.system import KnowledgeSystem

    system = KnowledgeSystem(load(found.model), found.task, found.data_seed)
    answered = list(zip(options.question, system.answers(options.question), strict=True))
    if options.json:
        return "\n".join(json.dumps({"question": question, **asdict(answer)}) for question, answer in answered)
    return "\n\n".join(f"{question}\n{answer.shown}" for question, answer in answered)


def questions(options: argparse.Namespace) -> str:
    """The table of the four tasks. Raises UserError on settings, a model or an endpoint that will not do."""
    from probing.world_facts.runner import examine

    _trust(options)
    found, kept = examine(options)
    if options.json:
        return "\n".join(json.dumps(row) for row in found)
    from probing.world_facts.report import table

    return f"{table(found)}\nevery question, answer and verdict: {kept}"


def run(options: argparse.Namespace) -> str:
    """The plan as text. Raises UserError on facts that cannot be read or cannot be."""
    from probing.capacity.planner import Need, facts_in, laws, people
    from synth.errors import UserError

    given = {k: getattr(options, k) for k in ("names", "values", "tokens", "vocabulary")}
    given = {key: value for key, value in given.items() if value is not None}
    if options.facts:
        if extra := given.keys() & {"values", "vocabulary"}:
            raise UserError(f"--{min(extra)} is counted from the file; leave it out or use --people")
        holding = facts_in(options.facts, **given)
    else:
        holding = people(options.people, **given)
    needs = [Need(law, holding) for law in laws()]
    if options.json:
        return json.dumps({"bits": holding.bits, "subjects": holding.subjects, "needs": [need.row() for need in needs]})
    from probing.capacity.planner_report import plan_text

    return plan_text(holding, needs)


def main() -> int:
    options = parser().parse_args()
    if options.command == "plan":
        os.environ["OMP_NUM_THREADS"] = "1"  # before numpy comes in: the plan's time is that of one core
    from synth.__main__ import guarded
    from synth.commands.command_line import check_arguments

    def work() -> None:
        check_arguments(sys.argv[1:])
        print({"plan": run, "show": show, "ask": ask, "questions": questions}[options.command](options))

    kept = "the same command goes on" if options.command == "questions" else "nothing was changed"
    return guarded(work, kept)


if __name__ == "__main__":
    sys.exit(main())
