"""What tests of several commands share."""

from collections.abc import Callable

import pytest
from commands import Finished, Run, in_this_process


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the `main` of any command with its arguments, in this process."""

    def call(main: Callable[[list[str]], None], *arguments: object) -> Finished:
        with in_this_process(main, capfd) as call_here:
            return call_here(*arguments)

    return call
