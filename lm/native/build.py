"""Compile the kernels of this folder for this processor, once, and load them."""

import atexit
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from synth.atomic_io import write_bytes

FOLDER = Path(__file__).parent
# NaN and infinity keep their meaning; sums may be taken in any order, as vectors need
FLAGS = (
    "-std=c++17 -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math -fno-signed-zeros "
    "-fassociative-math -freciprocal-math -fopenmp -fPIC -shared"
).split()
SWITCH = "PHYSICS_OF_LMS_NATIVE"  # environment variable; 0: do without the kernels


def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be compiled, or where the environment says so."""
    return None if os.environ.get(SWITCH) == "0" else load_library()


@cache
def load_library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be compiled, which one line on standard error says once."""
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: no home folder
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        reason = said[0][:200] if said else type(error).__name__
        mend = f"install g++, or set {SWITCH}=0 not to be told"
        print(f"training without compiled kernels ({reason}); {mend}", file=sys.stderr)
        return None


def _compiled() -> Path:
    """The path of the shared library in the user's cache; compiled if it is not there."""
    torch_libraries = Path(torch.__file__).parent / "lib"
    compiler = os.environ.get("CXX", "g++")
    sources = sorted(FOLDER.glob("*.cpp"))
    texts = [path.read_text(encoding="utf-8") for path in [*sources, *sorted(FOLDER.glob("*.h"))]]
    parts = [*FLAGS, compiler, torch.__version__, _processor(), *map(str, sources), *texts]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = _cache_folder()
    path = folder / f"kernels-{key}.so"
    if not path.exists():
        scratch = folder / f".{path.name}.{os.getpid()}"
        link = [f"-L{torch_libraries}", "-l:libtorch_cpu.so", f"-Wl,-rpath,{torch_libraries}"]
        try:
            command = [*shlex.split(compiler), *FLAGS, *map(str, sources), "-o", str(scratch), *link]
            words: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}  # also where the locale is ASCII
            subprocess.run(command, check=True, capture_output=True, timeout=300, **words)
            write_bytes(path, scratch.read_bytes())  # atomically: several processes may compile at once
        finally:
            scratch.unlink(missing_ok=True)
    return path


def _cache_folder() -> Path:
    """The folder in the user's cache; a temporary one, of this process alone, where that cannot be written."""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "physics-of-lms"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) or any(folder.glob("kernels-*.so")):
            return folder
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="physics-of-lms-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def main() -> None:
    """Compile the kernels now rather than in the first training."""
    if library() is not None:
        print(f"compiled kernels: {_compiled()}")


def _processor() -> str:
    """What -march=native depends on: a folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return "".join(line for line in lines[:30] if line.startswith(("model name", "flags")))


if __name__ == "__main__":
    main()
