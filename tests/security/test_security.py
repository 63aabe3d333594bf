"""What lies on a disk is data: nothing that is loaded from one runs (test_security_files.py plants more of it).

Code of one's own (a task, a mixer) runs where the command line or the caller names its file, and nowhere else.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lm.config import ModelConfig
from lm.model import build
from lm.pretrained import load, save
from synth.errors import UserError
from synth.tasks.cfg import Cfg

ROOT = Path(__file__).resolve().parents[2]
MIXER = """
from pathlib import Path
from torch import nn
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer

Path({marker!r}).touch()

class Evil(Mixer):
    def __init__(self, config):
        super().__init__()
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model))

    def forward(self, x, places):
        return self.out(x)
"""
TASK = "from pathlib import Path\nPath({marker!r}).touch()\n"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that any planted code makes."""
    return tmp_path / "owned"


def refused(work: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        work()
    assert "\n" not in str(caught.value)


# ---- the source ------------------------------------------------------------------------------------------------
# What runs what it is given, and where that is meant. Pickles of two libraries are not among these: submitit's lie in
# runs/.slurm, which only its owner may enter (experiments/harness/executors/slurm.py); numba's, of cache=True, in
# __pycache__, beside the .pyc files, which are code as well.
RUNS = re.compile(
    r"^(eval|exec|compile|__import__|runpy\.\w+|os\.(system|popen|exec\w*|spawn\w*)|subprocess\.\w+"
    r"|(\w+\.)*(exec_module|import_module)|(c?pickle|dill|cloudpickle|joblib|marshal|shelve)\.\w+"
    r"|torch\.(load|jit\.load|hub\.\w+|ops\.load_library)|(np|numpy)\.(load|fromfile)|(pd|pandas)\.(read_pickle|eval)"
    r"|yaml\.\w+|(\w+\.)*(read_pickle|query|unsafe_load))$"
)
MEANT = {
    "synth/registry.py: importlib.import_module": "the files of synth/tasks",
    "synth/user_code.py: compile": "a file that the user names",
    "synth/user_code.py: exec": "the same",
    "synth/cfg/__init__.py: importlib.import_module": "its own modules, when they are first used",
    "lm/__main__.py: yaml.safe_load": "a configuration file: plain values, checked against the options",
    "lm/__init__.py: import_module": "its own modules, when they are first used",
    "lm/ops/linear_recurrence.py: import_module": "its kernels, where numba is there",
    "lm/mixers/__init__.py: importlib.import_module": "the files of lm/mixers",
    "experiments/harness/experiment.py: spec.loader.exec_module": "the experiments, files beside the harness",
    "experiments/harness/provenance.py: subprocess.run": "git, without a shell, to name the commit",
    "lm/native/build.py: subprocess.run": "the C++ compiler, without a shell, on the sources beside it",
    "experiments/harness/executors/__init__.py: import_module": "the files beside it, one an executor",
    "benchmarks/__main__.py: import_module": "the files bench_NAME.py beside it",
}


PICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}  # not even imported
RUNNERS = {"subprocess", "os", "builtins"}  # called by their full names, which RUNS knows


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [(ast.unparse(node.func), node) for node in nodes]


def imports(tree: ast.AST) -> set[str]:
    """The imports that bring in what RUNS, or by which a call of it would go by another name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                room = name.name.partition(".")[0]
                if room in PICKLES or (room in RUNNERS and name.asname not in (None, name.name)):
                    found.add(f"import {name.name}")
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                room, full = (node.module or "").partition(".")[0], f"{node.module}.{name.name}"
                plain = full.removeprefix("builtins.")
                if room in PICKLES or (room in RUNNERS and (name.name == "*" or RUNS.match(plain))):
                    found.add(f"from {full}")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "import dill as p", "from pickle import loads", "from joblib import load as read",
        "from subprocess import run", "from os import popen", "from os import *", "from builtins import eval",
        "import subprocess as s", "import os as o",
    ],
)  # fmt: skip
def test_imports_of_what_runs_are_seen(line: str) -> None:
    assert imports(ast.parse(line))
    assert not imports(ast.parse("import os\nimport subprocess\nfrom os import getpid\nfrom .pools import load"))


def test_nothing_in_the_source_runs_what_it_reads() -> None:
    found = set()
    for room in ("synth", "lm", "probing", "experiments", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found |= {f"{path.relative_to(ROOT)}: {line}" for line in imports(tree)}
            for name, node in calls(tree):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("allow_pickle", "False") == given.get("trust_remote_code", "False") == "False", path
                assert given.get("shell", "False") == "False" and given.get("weights_only", "True") == "True", path
                if RUNS.match(name):
                    found.add(f"{path.relative_to(ROOT)}: {name}")
                if name.endswith("from_pretrained"):
                    text = ast.unparse(node)
                    assert "**safe" in text and ("use_safetensors=True" in text or "Tokenizer" in text), (path, text)
    assert found <= MEANT.keys(), found - MEANT.keys()


# ---- code that a file names --------------------------------------------------------------------------------------
@pytest.fixture
def planted(tmp_path: Path, marker: Path) -> Path:
    """The folder of a whole model, digests and all, whose config.json names a file of code."""
    evil, home = tmp_path / "evil.py", tmp_path / "run/model"
    evil.write_text(MIXER.format(marker=str(marker)) + "# as its owner has it")
    save(build(ModelConfig(1, 2, 8, positions="none", mixer=f"{evil}:Evil"), 13, 0), home)
    note = {"task": "brackets", "fields": {}, "key": Cfg("brackets").key, "data_seed": 0}
    (home / "task.json").write_text(json.dumps(note))
    assert marker.exists()  # whoever names it himself runs it
    marker.unlink()
    evil.write_text(MIXER.format(marker=str(marker)))  # nobody in this process has named this one
    return home


def test_a_saved_model_does_not_run_the_code_that_it_names(planted: Path, marker: Path, tmp_path: Path) -> None:
    import transformers

    import lm.hf  # noqa: F401
    from probing.__main__ import run

    words = ["show", "--run", str(planted.parent), "--output", str(tmp_path / "page.html")]
    asked = {
        "load": lambda: load(planted),
        "transformers": lambda: transformers.AutoModelForCausalLM.from_pretrained(planted),
        "its configuration": lambda: transformers.AutoConfig.from_pretrained(planted),
        "show": lambda: run(words),
    }
    for work in asked.values():
        refused(work, r"names code, .*evil\.py, which runs only if you name it too: give --trust-code .*evil\.py")
    assert not marker.exists()


def test_code_runs_when_it_is_named(planted: Path, marker: Path, tmp_path: Path) -> None:
    from synth.user_code import trust

    trust(tmp_path / "evil.py")
    assert not marker.exists()  # it is trusted, but nothing has needed it
    assert load(planted).config.mixer.endswith("evil.py:Evil") and marker.exists()
    (tmp_path / "evil.py").write_text((tmp_path / "evil.py").read_text() + "\n# other code than was trusted\n")
    refused(lambda: load(planted), "runs only if you name it too")


def test_the_file_runs_and_not_what_is_beside_it(tmp_path: Path, marker: Path) -> None:
    """A .pyc of the same time and size would be taken for the file's by Python's own import."""
    import py_compile

    from synth.user_code import load_file

    source = tmp_path / "t.py"
    source.write_text(TASK.format(marker=str(marker)))
    stamp = source.stat()
    py_compile.compile(str(source))
    source.write_text("# of the same size".ljust(stamp.st_size))
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    load_file(source)
    assert not marker.exists()


def sample(*words: str) -> subprocess.CompletedProcess[str]:
    few = ["--num-samples", "1", "--max-new-tokens", "4"]
    command = [sys.executable, "-m", "lm", "sample", *few, "--output-dir", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command_line_names_code_and_says_so(planted: Path, marker: Path, tmp_path: Path) -> None:
    bad = sample(str(planted.parent))
    assert bad.returncode == 2 and not marker.exists()
    assert bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1 and "--trust-code" in bad.stderr
    good = sample(str(planted.parent), "--trust-code", str(tmp_path / "evil.py"))
    assert good.returncode == 0 and good.stdout and marker.exists(), good.stderr
    assert good.stderr == f"running the code of {tmp_path}/evil.py\n"


def test_a_note_beside_a_model_does_not_run_the_task_that_it_names(tmp_path: Path, marker: Path) -> None:
    save(build(ModelConfig(1, 2, 8), 13, 0), tmp_path / "run/model")
    (tmp_path / "evil.py").write_text(TASK.format(marker=str(marker)))
    note = {"task": f"{tmp_path}/evil.py:Task", "fields": {}, "key": "", "data_seed": 0}
    (tmp_path / "run/model/task.json").write_text(json.dumps(note))
    bad = sample(str(tmp_path / "run"))
    assert bad.returncode == 2 and "task.json names code" in bad.stderr and bad.stderr.count("\n") == 1
    assert not marker.exists()


def test_a_task_that_is_named_says_so_once(reverse: str) -> None:
    command = [sys.executable, "-m", "synth", "show", reverse, "--num-samples", "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stderr == f"running the code of {reverse.rpartition(':')[0]}\n"


TRAINED = """
import sys
from pathlib import Path
from experiments.harness import Run
from experiments.harness.execution import model_cache, trainings
from lm import ModelConfig, TrainConfig
from synth import get_task

model = ModelConfig(1, 2, 8, max_seq_len=16, positions="none", mixer=sys.argv[1])
run = Run("x", get_task("brackets"), model, TrainConfig(steps=2, batch_size=2, seq_len=16))
found = model_cache.load_cached_or_none(model_cache.model_dir(run, Path(sys.argv[2]), 1))
print("read" if found else trainings.train_or_load(run, Path(sys.argv[2]), True, print).model and "made")
"""


def test_a_second_process_that_is_given_the_file_reads_what_the_first_has_kept(tmp_path: Path, marker: Path) -> None:
    """As workers and a second `playground --arch FILE` do."""
    (tmp_path / "mine.py").write_text(MIXER.format(marker=str(marker)))
    command = [sys.executable, "-c", TRAINED, f"{tmp_path}/mine.py:Evil", f"{tmp_path}/runs"]
    said = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("running the code of") == 1
        said.append(done.stdout.split()[-1])
    assert said == ["made", "read"]


def test_workers_and_other_ranks_do_not_say_whose_code_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from synth import user_code

    def told(name: str) -> str:
        (tmp_path / name).write_text("")
        user_code.trust(tmp_path / name)
        return capsys.readouterr().err

    monkeypatch.setattr(sys, "argv", ["x", f"--task={tmp_path}/a.py:A", "b.py", "c.py", "mine.py:X"])
    assert told("a.py") == f"running the code of {tmp_path}/a.py\n" and told("a.py") == ""
    assert told("d.py") == told("e.py") == ""  # no command line names it: who calls knows what he calls
    monkeypatch.setenv("RANK", "1")
    assert told("b.py") == ""
    monkeypatch.delenv("RANK")
    monkeypatch.setattr(user_code, "parent_process", lambda: "a pool")
    assert told("c.py") == ""


def test_a_broken_installed_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from synth import registry

    info = tmp_path / "planted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    for value, match in {"nowhere_at_all:X": "does not import", "json:loads": "is no Task"}.items():
        (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\nmine = {value}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry.installed_tasks.cache_clear()
        refused(registry.installed_tasks, f"task mine of planted.*{match}.*; mend or uninstall it|is no Task")
    monkeypatch.undo()
    registry.installed_tasks.cache_clear()
    assert "mine" not in registry.installed_tasks()
