"""Arguments: reads a magic's line by a table of commands, and writes help and completion from the same table.

Knows nothing of clusters. Errors are one line: what was wrong, the nearest valid word, what to type for help. (argparse
prints to standard error and ends the process; a notebook needs neither.)
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

HELP_FLAGS = ("--help", "-h")


class ArgumentMistake(ValueError):
    """The line cannot be understood. The text is one line for the person who typed it."""


@dataclass(frozen=True)
class Option:
    """``--flag VALUE``. convert: text → value, ValueError with a readable text for a bad one; None: a switch without
    a value."""

    flag: str
    value: str
    text: str
    convert: Callable[[str], Any] | None = None

    @property
    def name(self) -> str:
        """The attribute's name: ``--object-store-memory`` → object_store_memory."""
        return self.flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Command:
    """One sub-command. words: names of its positional arguments; one in brackets may be left out."""

    name: str
    text: str
    words: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    complete_word: Callable[[], Iterable[str]] | None = None


@dataclass(frozen=True)
class Request:
    """A line that was understood. ``values`` has the options that were given."""

    command: Command | None
    words: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    wants_help: bool = False


class CommandTable:
    """All commands of one magic."""

    def __init__(self, magic: str, summary: str, commands: Iterable[Command]) -> None:
        self.magic = magic
        self.summary = summary
        self.commands = {command.name: command for command in commands}

    def parse(self, line: str) -> Request:
        """Understand a line; ArgumentMistake when it cannot be. An empty line asks for help."""
        try:
            parts = shlex.split(line)
        except ValueError as error:
            raise ArgumentMistake(f"Cannot read this line: {str(error).lower()}.") from None
        if not parts or parts[0] in HELP_FLAGS:
            return Request(None, wants_help=True)
        command = self.commands.get(parts[0])
        if command is None:
            raise ArgumentMistake(
                f"There is no command {parts[0]!r}.{nearest(parts[0], self.commands)} "
                f"Commands: {', '.join(self.commands)}."
            )
        return self._parse_rest(command, parts[1:])

    def complete(self, line: str) -> list[str]:
        """What may stand at the end of this line (the line up to the cursor, magic's name included)."""
        parts = line.split()
        current = "" if line[-1:].isspace() else parts.pop()
        given = parts[1:]
        if not given:
            return [name for name in self.commands if name.startswith(current)]
        command = self.commands.get(given[0])
        return [] if command is None else self._complete_rest(command, given[1:], current)

    @staticmethod
    def _complete_rest(command: Command, given: list[str], current: str) -> list[str]:
        if given and given[-1] in {option.flag for option in command.options if option.convert}:
            return []
        if current.startswith("-") or not command.complete_word:
            flags = [option.flag for option in command.options if option.flag not in given] + [HELP_FLAGS[0]]
            return [flag for flag in flags if flag.startswith(current)]
        words = [word for word in command.complete_word() if word.startswith(current)]
        return words if len([part for part in given if not part.startswith("-")]) < len(command.words) else []

    def help(self, command: Command | None = None) -> str:
        """The page for one command, or for all."""
        if command is None:
            width = max(len(self._usage(each)) for each in self.commands.values())
            lines = [f"  {self._usage(each):<{width}}  {each.text}" for each in self.commands.values()]
            return "\n".join([self.summary, "", *lines, "", f"`%{self.magic} COMMAND --help` tells more."])
        lines = [f"%{self.magic} {self._usage(command)}", "", command.text]
        if command.options:
            shown = [(f"{option.flag} {option.value}".rstrip(), option.text) for option in command.options]
            width = max(len(flag) for flag, _ in shown)
            lines += ["", *(f"  {flag:<{width}}  {text}" for flag, text in shown)]
        return "\n".join(lines)

    def _usage(self, command: Command) -> str:
        return " ".join([command.name, *command.words, *(["[options]"] if command.options else [])])

    def _parse_rest(self, command: Command, parts: list[str]) -> Request:
        words: list[str] = []
        values: dict[str, Any] = {}
        options = {option.flag: option for option in command.options}
        rest = iter(parts)
        for part in rest:
            if part in HELP_FLAGS:
                return Request(command, wants_help=True)
            if not part.startswith("-"):
                words.append(part)
                continue
            flag, has_value, value = part.partition("=")
            option = options.get(flag)
            if option is None:
                raise ArgumentMistake(self._unknown_flag(command, flag, options))
            if option.name in values:
                raise ArgumentMistake(f"{flag} is given twice.")
            values[option.name] = _converted(option, value if has_value else None, rest)
        self._check_words(command, words)
        return Request(command, tuple(words), values)

    def _unknown_flag(self, command: Command, flag: str, options: dict[str, Option]) -> str:
        if not options:
            return f"`{command.name}` takes no options, but {flag} was given."
        hint = nearest(flag, options)
        return f"`{command.name}` has no option {flag}.{hint} Type {self._help_of(command)}."

    def _help_of(self, command: Command) -> str:
        return f"`%{self.magic} {command.name} --help`"

    def _check_words(self, command: Command, words: list[str]) -> None:
        required = [word for word in command.words if not word.startswith("[")]
        if len(words) < len(required):
            raise ArgumentMistake(
                f"`{command.name}` needs {required[len(words)]}: `%{self.magic} {self._usage(command)}`."
            )
        if len(words) > len(command.words):
            extra = words[len(command.words)]
            hint = nearest("--" + extra, [option.flag for option in command.options])
            raise ArgumentMistake(f"`{command.name}` does not know what to do with {extra!r}.{hint}")


class LineTable(CommandTable):
    """A magic without sub-commands: its line is options and words."""

    def __init__(self, magic: str, command: Command) -> None:
        super().__init__(magic, command.text, ())
        self.command = command

    def parse(self, line: str) -> Request:
        try:
            parts = shlex.split(line)
        except ValueError as error:
            raise ArgumentMistake(f"Cannot read this line: {str(error).lower()}.") from None
        return self._parse_rest(self.command, parts)

    def complete(self, line: str) -> list[str]:
        parts = line.split()
        current = "" if line[-1:].isspace() else parts.pop()
        return self._complete_rest(self.command, parts[1:], current)

    def help(self, command: Command | None = None) -> str:
        return super().help(self.command)

    def _usage(self, command: Command) -> str:
        return " ".join([*command.words, *(["[options]"] if command.options else [])])

    def _help_of(self, command: Command) -> str:
        return f"`%{self.magic} --help`"


def nearest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'start'?", or "" when nothing is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f" Did you mean {found[0]!r}?" if found else ""


def _converted(option: Option, value: str | None, rest: Any) -> Any:
    if option.convert is None:
        if value is not None:
            raise ArgumentMistake(f"{option.flag} takes no value, got {value!r}.")
        return True
    if value is None:
        value = next(rest, None)
    if value is None or (value.startswith("--")):
        raise ArgumentMistake(f"{option.flag} needs a value: {option.flag} {option.value}.")
    try:
        return option.convert(value)
    except ValueError as error:
        raise ArgumentMistake(f"{option.flag}: {error}") from None
