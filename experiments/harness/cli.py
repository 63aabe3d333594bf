"""The command lines: one experiment (`python experiments/NN_name.py`) and all of them (`python -m experiments`).

Bad input ends with one line on standard error and status 2. Nothing heavy is imported before it is needed.
"""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.harness.calibration.calibrate import add_options, calibrate
from experiments.harness.execution.distributed import led
from experiments.harness.executors import EXECUTORS, Plan, Where, check_executor, run_all
from experiments.harness.executors.job_spec import default_jobs
from experiments.harness.experiment import FOLDER, TABLE, Experiment, draw, select
from experiments.harness.run import SCALES, Run
from synth.commands.command_line import Parser, complain, flush, no_such_name, output_lost
from synth.errors import UserError

UNUSABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT)


def _natural(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (1 < value < 1000 and value == int(value))):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a part of a GPU, such as 0.25, nor a number of them")
    return value


def _folders(parser: argparse.ArgumentParser, root: Path) -> None:
    parser.add_argument("--results", type=Path, default=root / "results", help="folder of tables and figures")
    parser.add_argument("--runs", type=Path, default=root / "runs", help="folder of finished and unfinished runs")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", choices=SCALES, default="laptop", help="how large to run (default: laptop)")
    parser.add_argument("--dry-run", action="store_true", help="print what it would cost and stop")
    parser.add_argument("--measure", action="store_true", help="with --dry-run: time a few training steps")
    parser.add_argument("--plot-only", action="store_true", help="draw the figure from the table of this scale")
    parser.add_argument("--seeds", type=_natural, help="seeds per configuration (default: the scale's own)")
    parser.add_argument("--jobs", type=_natural, help="processes at a time (default: one per core; one with a GPU)")
    parser.add_argument("--executor", choices=EXECUTORS, default="inline", help="where runs are carried out")
    parser.add_argument(
        "--address", default="", help="of a running Ray cluster (auto, HOST:PORT); local: Slurm's jobs here"
    )
    parser.add_argument("--gpus", type=_share, help="GPUs that a run takes on a cluster, also a part of one: 0.25")
    sbatch = "an option of sbatch, or minutes=N, a job's time limit; may be given several times"
    parser.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=sbatch)
    trackers = "show trainings in tensorboard, wandb or trackio"
    parser.add_argument("--track", default="", metavar="TRACKER", help=trackers)


def main(file: str, argv: Sequence[str] | None = None) -> None:
    """The command line of one experiment; call it as main(__file__)."""
    experiment = Experiment(Path(file).resolve())
    parser = Parser(prog=f"python experiments/{experiment.path.name}", description=experiment.title)
    _run_options(parser)
    _folders(parser, experiment.path.parents[1])
    options = parser.parse_args(argv)
    _guarded(lambda: run_experiment(experiment, options), options)


def main_all(argv: Sequence[str] | None = None, folder: Path = FOLDER) -> None:
    """The command line over all experiments."""
    about = "All experiments: list, run, plot, claims, cost; and a playground for an architecture of your own."
    parser = Parser(prog="python -m experiments", description=about)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, does: Callable[[argparse.Namespace], None], help: str) -> Parser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(does=does, folder=folder)
        if name not in ("claims", "playground"):
            sub.add_argument("experiments", nargs="*", metavar="NN", help="numbers or names (default: all)")
        _folders(sub, folder.parent)
        return sub

    command("list", _list, "list the experiments and the scales that have results")
    _run_options(command("run", _run, "run experiments"))
    plot = command("plot", _plot, "draw every figure again from its committed table")
    plot.add_argument("--into", type=Path, help="another folder for the figures (default: beside the tables)")
    claims = command("claims", _claims, "the ledger of all claims")
    claims.add_argument("--json", action="store_true", help="one object a line")
    claims.add_argument("--write", action="store_true", help="write it to results/README.md")
    claims.add_argument("--check", action="store_true", help="fail unless results/README.md is up to date")
    cost = command("cost", _cost, "what runs cost, at every scale")
    cost.add_argument("--scale", choices=SCALES, help="one scale only")
    cost.add_argument("--seeds", type=_natural, help="seeds per configuration")
    cost.add_argument("--measure", action="store_true", help="time a few training steps of each configuration")
    cost.add_argument("--gpu", choices=("h100", "a100"), default="h100", help="which GPU to price (default: h100)")
    help = "find the sizes of a task at which a model is neither at floor nor at ceiling"
    sub = commands.add_parser("calibrate", help=help, description=f"{help}; docs/calibrate.md shows one")
    add_options(sub, _natural)
    sub.add_argument("--runs", type=Path, default=folder.parent / "runs", help="folder of runs")
    sub.set_defaults(does=calibrate)
    play = command("playground", _playground, "an architecture of your own beside the papers', on every task")
    play.add_argument("--arch", required=True, metavar="FILE.py:CLASS", help="your token mixer (lm.mixers.base.Mixer)")
    play.add_argument("--tasks", default="", help="comma-separated: depo,brevo,mano,capacity,cfg (default: all)")
    _run_options(play)
    options = parser.parse_args(argv)
    _guarded(lambda: options.does(options), options)


def _guarded(work: Callable[[], None], options: argparse.Namespace) -> None:
    """Do the work; errors that a user can mend become one line."""
    from experiments.harness.atomic_io import disk_full

    terminated = _heed_sigterm()
    try:
        work()
        flush()
    except UserError as error:
        problem = str(error)
    except KeyboardInterrupt:
        print("\nstopped; run the same command to go on", file=sys.stderr)
        raise SystemExit(128 + (signal.SIGTERM if terminated else signal.SIGINT)) from None
    except BrokenPipeError:
        output_lost()
        raise SystemExit(0) from None  # the reader, such as head, has seen enough
    except OSError as error:
        if output_lost():
            problem = f"the output: {error.strerror}; write it elsewhere"
        elif misplaced := _misplaced(error, options):
            problem = misplaced
        elif disk_full(error, options.runs):
            place = error.filename or options.runs
            problem = f"the disk of {place} is full; free some space and run the same command again"
        else:
            problem = str(no_such_name(error))
    else:
        return
    complain(problem)
    raise SystemExit(2)


def _heed_sigterm() -> list[int]:
    """Take SIGTERM, which Slurm sends before a time limit, as Ctrl-C; the list, empty now, says that it came."""
    came: list[int] = []

    def leave(number: int, frame: Any) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
    return came


def _misplaced(error: OSError, options: argparse.Namespace) -> str | None:
    """What to say of a folder given by the user that cannot be used; None when the error is about something else."""
    if error.errno not in UNUSABLE or error.filename is None:
        return None
    path = Path(os.path.abspath(os.fsdecode(error.filename)))
    for name in ("into", "results", "runs"):
        given = getattr(options, name, None)
        folder = Path(os.path.abspath(given)) if given else None
        if folder and (path.is_relative_to(folder) or folder.is_relative_to(path)):
            return f"{path}: {error.strerror}; mend this or give --{name} a folder that you may write to"
    return None


def run_experiment(experiment: Experiment, options: argparse.Namespace) -> None:
    """Run (or dry-run, or plot) one experiment at one scale. Raises UserError where it has no runs."""
    plan = Plan(experiment, options.scale, options.seeds, options.runs, options.track)
    with led(plan) as leading:
        if leading:
            _carry_out(plan, experiment, options)


def _carry_out(plan: Plan, experiment: Experiment, options: argparse.Namespace) -> None:
    folder = options.results / experiment.name / options.scale
    if options.plot_only:
        return _draw_committed(experiment, options.scale, options.results, folder)
    runs = experiment.runs(options.scale, options.seeds)
    if not runs:
        raise UserError(f"{experiment.name} has no runs at scale {options.scale}")
    if options.dry_run:
        return _print_cost(experiment, options.scale, runs, options)
    from experiments.harness.reporting.live import Report

    if options.track:
        from lm.training.trackers import check_tracker

        check_tracker(options.track)
    where = Where(options.executor, options.jobs, options.address, options.gpus, tuple(options.slurm))
    check_executor(where)
    folder.mkdir(parents=True, exist_ok=True)  # before the first training, as nothing can be shown without it
    report = Report(experiment, options.scale, runs, options.runs, options.results)
    run_all(plan, runs, where, report.after)
    report.finish()


def _draw_committed(experiment: Experiment, scale: str, results: Path, folder: Path) -> None:
    for path in draw(experiment, results / experiment.name / scale / TABLE, folder):
        print(path)


def _print_cost(experiment: Experiment, scale: str, runs: Sequence[Run], options: argparse.Namespace) -> None:
    from experiments.harness.planning.cost import costs
    from experiments.harness.planning.report import report

    print(report(experiment.name, scale, costs(runs, options.runs, options.measure), options.jobs or default_jobs()))


def _list(options: argparse.Namespace) -> None:
    for experiment in select(options.experiments, options.folder):
        scales = ", ".join(experiment.scales_with_tables(options.results)) or "no results"
        print(f"{experiment.name:28} {scales:24} {experiment.title}")


def _run(options: argparse.Namespace) -> None:
    chosen = select(options.experiments, options.folder)
    for experiment in chosen:
        if len(chosen) > 1 and not options.plot_only and not experiment.runs(options.scale):
            print(f"{experiment.name}: nothing to run at scale {options.scale}")
            continue
        run_experiment(experiment, options)


def _playground(options: argparse.Namespace) -> None:
    from experiments.harness.playground.experiment import check, playground

    comparison = playground(options.arch, [task for task in options.tasks.split(",") if task], options.seeds)
    if not options.plot_only:
        check(comparison, options.scale)
    run_experiment(comparison, options)


def _plot(options: argparse.Namespace) -> None:
    for experiment in select(options.experiments, options.folder):
        for scale in experiment.scales_with_tables(options.results):
            folder = (options.into or options.results) / experiment.name / scale
            _draw_committed(experiment, scale, options.results, folder)


def _claims(options: argparse.Namespace) -> None:
    from experiments.harness.atomic_io import write_text
    from experiments.harness.reporting import ledger

    path = options.results / "README.md"
    if options.write:
        write_text(path, ledger.markdown(options.results, options.folder))
        print(path)
    elif options.check:
        if not path.is_file() or path.read_bytes() != ledger.markdown(options.results, options.folder).encode():
            raise UserError(f"{path} is not up to date; run `python -m experiments claims --write`")
    elif options.json:
        print("\n".join(ledger.json_lines(options.results, options.folder)))
    else:
        print(ledger.text(options.results, options.folder))


def _cost(options: argparse.Namespace) -> None:
    from experiments.harness.planning.gpu import GPUS
    from experiments.harness.planning.report import print_bills

    chosen, scales = select(options.experiments, options.folder), [options.scale] if options.scale else SCALES
    gpu, jobs = GPUS[options.gpu], default_jobs()
    print_bills(chosen, scales, options.runs, options.results, gpu, jobs, options.seeds, options.measure)
