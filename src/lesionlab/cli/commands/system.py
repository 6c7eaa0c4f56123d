"""Commands that show the whole chain, the machine, and what can be typed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome, shown


@command(
    "demo.demonstrate",
    "demo",
    "demo --data data/ham10000 --out runs/demo",
    warnings_last=False,
)
def demo(call: Call, *, out: Path = Path("demo")) -> Outcome:
    """Draw lesions, audit and split them, train a net on them, and report.

    Args:
        out: folder for everything that the demo makes.
    """
    library("training.train.train")  # says what is missing, before anything is drawn
    result, page = call(out=out)
    outcome = shown(result, "Test part: lesions the network has never seen")
    outcome.lines.append(f"Report: {page}. Open it in a browser.")
    return outcome


@command("", "doctor")
def doctor(call: Call) -> Outcome:  # noqa: ARG001
    """Say what is installed, what the machine has, and what is missing for which command."""
    from lesionlab.environment import diagnose

    table, lines = diagnose()
    return Outcome([("This machine", table)], lines)


@command("", "completion bash > ~/.local/share/bash-completion/completions/lesionlab")
def completion(call: Call, shell: Literal["bash", "zsh", "fish"]) -> Outcome:  # noqa: ARG001
    """Print a script that completes commands, options and their values by Tab.

    For bash: lesionlab completion bash > ~/.local/share/bash-completion/completions/lesionlab

    For zsh: lesionlab completion zsh > "${fpath[1]}/_lesionlab"

    For fish: lesionlab completion fish > ~/.config/fish/completions/lesionlab.fish

    Args:
        shell: whose script.
    """
    from lesionlab.cli.completion import script

    return Outcome(text=script(shell))
