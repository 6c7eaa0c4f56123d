"""Scripts that complete commands, options and values by Tab, out of the same declarations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lesionlab.cli.app import COMMANDS, declared


@dataclass(frozen=True)
class Words:
    """What can be typed behind a command.

    Attributes:
        name: of the command, such as "audit labels".
        options: its flags, each with the values that it may have (() where any will do) and help.
        choices: values of its first argument, where they are few.
    """

    name: str
    options: dict[str, tuple[tuple[str, ...], str]]
    choices: tuple[str, ...]


def words() -> Iterator[Words]:
    """Every command's words, out of its declaration."""
    for name in COMMANDS:
        parameters = declared(name).parameters().values()
        options = {
            each.flag: (tuple(map(str, each.kind.choices)), each.help.partition(";")[0])
            for each in parameters
            if not each.positional
        }
        options |= {
            each.flag.replace("--", "--no-"): ((), "") for each in parameters if each.kind.either
        }
        variants = {
            flag: ((), COMMANDS[other].text)
            for other in COMMANDS
            if other.startswith(f"{name} --") and (flag := other.partition(" ")[2])
        }
        places = [each for each in parameters if each.positional]
        choices = tuple(map(str, places[0].kind.choices)) if places else ()
        yield Words(name, {**variants, **options, "--help": ((), "explain it")}, choices)


def script(shell: str) -> str:
    """The script of a shell.

    Args:
        shell: bash, zsh or fish.
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _first() -> list[str]:
    return list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))


def _nested() -> dict[str, list[str]]:
    """Of a command such as audit, the words that make another one of it."""
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        if second and not second.startswith("--"):
            found.setdefault(first, []).append(second)
    return found


def _name_in_shell() -> str:
    """Lines that set `name` to the command that the words of a line call (bash and zsh)."""
    lines = ['  local name="${words[1]}" each', '  case "$name ${words[2]}" in']
    pairs = [f'"{first} {second}"' for first, more in _nested().items() for second in more]
    lines += [f'    {"|".join(pairs)}) name="$name ${{words[2]}}" ;;', "  esac"]
    variants = [name for name in COMMANDS if " --" in name]
    lines += ['  for each in "${words[@]}"; do', '    case "${words[1]} $each" in']
    pairs = [f'"{name}"' for name in variants]
    lines += [f'      {"|".join(pairs)}) name="${{words[1]}} $each" ;;', "    esac", "  done"]
    return "\n".join(lines)


def _cases() -> str:
    """Cases that set `options`, `values` and `more` by name and by the word before."""
    lines = ['  case "$name|$before" in']
    every = list(words())
    for each in every:
        if each.choices:
            values = " ".join(each.choices)
            lines.append(f'    "{each.name}|{each.name}") values="{values}" ;;')
        for flag, (choices, _) in each.options.items():
            if choices:
                lines.append(f'    "{each.name}|{flag}") values="{" ".join(choices)}" ;;')
    lines += ["  esac", '  case "$name" in']
    nested = _nested()
    named = {each.name for each in every}
    for each in every:
        more = " ".join(nested.get(each.name, ()))
        lines.append(f'    "{each.name}") options="{" ".join(each.options)}"; more="{more}" ;;')
    lines += [
        f'    "{first}") options="--help"; more="{" ".join(second)}" ;;'
        for first, second in nested.items()
        if first not in named
    ]
    return "\n".join([*lines, "  esac"])


def _bash() -> str:
    return f"""# Completion of lesionlab in bash. Made by: lesionlab completion bash
_lesionlab() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local words=("${{COMP_WORDS[@]}}") options="" values="" more=""
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "{" ".join(_first())} --help --version" -- "$current"))
    return
  fi
{_name_in_shell()}
{_cases()}
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    [[ $COMP_CWORD -eq 2 ]] && COMPREPLY=($(compgen -W "$more" -- "$current"))
    compopt -o filenames 2>/dev/null
    local line
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
  fi
}}
complete -F _lesionlab lesionlab"""


def _zsh() -> str:
    return f"""#compdef lesionlab
# Completion of lesionlab in zsh. Made by: lesionlab completion zsh
_lesionlab() {{
  local current="${{words[CURRENT]}}" before="${{words[CURRENT-1]}}" typed=$CURRENT
  local options="" values="" more=""
  if (( typed == 2 )); then
    compadd -- {" ".join(_first())} --help --version
    return
  fi
  shift words
{_name_in_shell()}
{_cases()}
  if [[ -n $values ]]; then
    compadd -- ${{=values}}
  elif [[ $current == -* ]]; then
    compadd -- ${{=options}}
  else
    (( typed == 3 )) && [[ -n $more ]] && compadd -- ${{=more}}
    _files
  fi
}}
compdef _lesionlab lesionlab"""


def _fish() -> str:
    lines = [
        "# Completion of lesionlab in fish. Made by: lesionlab completion fish",
        f"set -l commands {' '.join(_first())}",
        'complete -c lesionlab -n "not __fish_seen_subcommand_from $commands" -f',
    ]
    for name, entry in COMMANDS.items():
        first, _, second = name.partition(" ")
        if not second:
            where = '-n "not __fish_seen_subcommand_from $commands"'
            lines.append(f"complete -c lesionlab {where} -a {first} -d {_quoted(entry.text)}")
        elif not second.startswith("--"):
            where = f'-n "__fish_seen_subcommand_from {first}"'
            lines.append(f"complete -c lesionlab {where} -a {second} -d {_quoted(entry.text)}")
    for first in set(_nested()) - set(COMMANDS):
        where = '-n "not __fish_seen_subcommand_from $commands"'
        lines.append(f"complete -c lesionlab {where} -a {first}")
    for each in words():
        seen = "; and ".join(
            f"__fish_contains_opt {word[2:]}"
            if word.startswith("--")
            else f"__fish_seen_subcommand_from {word}"
            for word in each.name.split()
        )
        if each.choices:
            values = _quoted(" ".join(each.choices))
            lines.append(f'complete -c lesionlab -n "{seen}" -f -a {values}')
        for flag, (choices, text) in each.options.items():
            values = f" -x -a {_quoted(' '.join(choices))}" if choices else ""
            lines.append(
                f'complete -c lesionlab -n "{seen}" -l {flag[2:]}{values} -d {_quoted(text)}'
            )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"
