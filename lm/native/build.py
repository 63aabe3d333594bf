"""Compile the kernels of this folder for this processor, once, and load them."""

import ctypes
import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

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
    texts = [path.read_text() for path in [*sources, *sorted(FOLDER.glob("*.h"))]]
    parts = [*FLAGS, compiler, torch.__version__, _processor(), *map(str, sources), *texts]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "physics-of-lms"
    path = folder / f"kernels-{key}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{path.name}.{os.getpid()}"
        link = [f"-L{torch_libraries}", "-l:libtorch_cpu.so", f"-Wl,-rpath,{torch_libraries}"]
        try:
            command = [compiler, *FLAGS, *map(str, sources), "-o", str(scratch), *link]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            write_bytes(path, scratch.read_bytes())  # atomically: several processes may compile at once
        finally:
            scratch.unlink(missing_ok=True)
    return path


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
