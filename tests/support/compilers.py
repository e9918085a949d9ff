"""A compiler that is quick: what it builds is as right, and slow."""

import shlex
from pathlib import Path

from las_sj.neurons.kernels import host


def quick_compiler(folder: Path) -> Path:
    """A program `g++` in a folder: the system's C++ compiler without its optimiser, which takes most of a minute."""
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(host.compiler())} "$@" -O0\n', encoding="utf-8")
    program.chmod(0o755)
    return program
