"""The command las-sj, which is `python -m las_sj` too: one door to all commands.

It lies beside the package, not in it: whatever is in las_sj imports torch and transformers first, which takes seconds,
and `las-sj --help` needs neither.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "convert": "turn a pre-trained transformer into a spiking network, with a report",
    "optimize": "convert with the fewest spikes that a loss allows, site by site",
    "evaluate": "measure a model and its spiking network on the same batches of real tasks",
    "report": "write a page about a converted model: spikes, energy, every operation",
    "deploy": "work out what a neuromorphic chip would need to run a converted model",
    "inspect": "list the neurons of a converted model, their thresholds and its latency",
    "finetune": "fine-tune an encoder on a GLUE task, to have a classifier to convert",
    "fas": "train a network of rate codes: pretrain, finetune, calibrate",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the others; list the commands where there is none."""
    try:
        _main(arguments)
    except KeyboardInterrupt:  # while torch is imported; a command that runs says what became of it
        print("\ninterrupted: nothing was written", file=sys.stderr)
        sys.exit(130)


def _main(arguments: Sequence[str] | None) -> None:
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(f"las_sj {version('las_sj')}")
    elif name in COMMANDS:
        _run(name, rest)
    else:
        kind = "option" if name.startswith("-") else "command"
        print(f"error: no {kind} {name!r} (las-sj --help lists the commands)", file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """The commands, one to a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        [
            "usage: las-sj COMMAND ...    (or python -m las_sj COMMAND ...)",
            "",
            *lines,
            "",
            "las-sj COMMAND --help lists the options of a command, las-sj --version tells the version.",
        ]
    )


def _run(name: str, arguments: list[str]) -> None:
    from las_sj.commands.command_line import run  # here, so that nothing else waits for torch

    command = import_module(f"las_sj.commands.{name}")
    run(lambda: command.main(arguments))


if __name__ == "__main__":
    main()
