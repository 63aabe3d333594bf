"""Provenance of a result: commit, machine and library versions."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CODE = ("synth", "lm", "probing", "experiments")
ROUNDING_FLAGS = frozenset("fma avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile".split())


@cache
def git_commit() -> str:
    """First 12 characters of the commit, with "-dirty" if the code differs from it; "unknown" outside git."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD").strip()
        return commit + ("-dirty" if _git("status", "--porcelain", "--", *CODE).strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def device_name() -> str:
    """Model name of the GPU if there is one, else of the processor."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def vector_instructions() -> list[str]:
    """The processor's vector instructions that decide how sums are rounded: two machines with other ones give other
    last digits, and small models that are chaotic other results. Empty where the system does not say."""
    return sorted(set(_cpuinfo("flags").split()) & ROUNDING_FLAGS)


def _cpuinfo(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def provenance() -> dict[str, Any]:
    """Commit, device, vector instructions, threads, library versions and date (UTC, ISO 8601) of this process."""
    import torch

    return {
        "git_commit": git_commit(),
        "device": device_name(),
        "instructions": vector_instructions(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "numpy", "numba", "transformers")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
