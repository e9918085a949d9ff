"""A compiler that is quick: what it builds is as right, and slow."""

import shlex
import shutil
from pathlib import Path

from las_sj.neurons.kernels import host


def quick_compiler(folder: Path) -> Path:
    """A program `g++` in a folder: the system's C++ compiler without its optimiser, which takes most of a minute."""
    name, *options = host.compiler()
    command = shlex.join([str(shutil.which(name)), *options])  # not found by name, which would be this one's
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\nexec {command} "$@" -O0\n', encoding="utf-8")
    program.chmod(0o755)
    return program
