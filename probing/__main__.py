"""python -m probing plan: how large a model and how much training a set of facts needs.

python -m probing plan --people 10000                 people as in Part 3.3: 47.6 bits each, and their names
python -m probing plan --people 500 --names 1e6 --values 12 28 100 --tokens 15 --vocabulary 200
python -m probing plan --facts table.csv              a line a subject: name, attribute, attribute, ...
python -m probing plan --facts triples.jsonl --json   [subject, attribute, value] a line
"""

import argparse
import json
import os
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser("python -m probing", description=__doc__, formatter_class=_Plain)
    plan = top.add_subparsers(dest="command", required=True).add_parser("plan", help="size, tokens and time for facts")
    what = plan.add_mutually_exclusive_group(required=True)
    what.add_argument("--people", type=int, metavar="N", help="so many people, told of as bioS does")
    what.add_argument("--facts", type=Path, metavar="FILE", help="a .csv or .tsv table, or .jsonl triples")
    plan.add_argument("--names", type=float, help="how many names there are to draw from (bioS: 1.6e8)")
    plan.add_argument("--values", type=int, nargs="+", help="how many values each attribute has (bioS: six of them)")
    plan.add_argument("--tokens", type=float, help="tokens of one telling of one subject (bioS: 80)")
    plan.add_argument("--vocabulary", type=int, help="distinct tokens (bioS: 3275)")
    plan.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return top


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


def run(options: argparse.Namespace) -> str:
    """The plan as text. Raises UserError on facts that cannot be read or cannot be."""
    from probing.plan import Need, facts_in, laws, people
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
    from probing.report import plan_text

    return plan_text(holding, needs)


def main() -> int:
    os.environ["OMP_NUM_THREADS"] = "1"  # before numpy comes in: the plan's time is that of one core
    from synth.errors import UserError

    try:
        print(run(parser().parse_args()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was changed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
