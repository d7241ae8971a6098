"""The ``remote`` decorator: functions become RemoteFunctions, classes become ActorClasses."""

from __future__ import annotations

import inspect
from typing import Any

from raybook.api.actor import ActorClass
from raybook.api.actor_handle import ActorHandle
from raybook.api.remote_function import RemoteFunction

USAGE = (
    "The @raybook.remote decorator must be applied either with no arguments and no parentheses, for example "
    "'@raybook.remote', or with keyword arguments only, for example '@raybook.remote(num_cpus=2, max_retries=0)'."
)


class WrongDecoration(TypeError, AssertionError):
    """The decorator was applied to something else, or with arguments that are no options. Ray asserts it."""


def remote(*args: Any, **options: Any) -> Any:
    """Make a function or class run elsewhere: ``@raybook.remote`` or ``@raybook.remote(num_cpus=2)``.

    Also as a call, for what is not yours to decorate: ``raybook.remote(f).remote(x)``. A plain function has no
    ``.remote``; this is how it gets one. TypeError for anything but a function or class, ValueError for unknown or
    wrong options and for ``async def`` functions.
    """
    if len(args) == 1 and not options:
        return _make_remote(args[0], {})
    if args or not options:
        raise WrongDecoration(USAGE)
    return lambda target: _make_remote(target, options)


def _make_remote(target: Any, options: dict[str, Any]) -> RemoteFunction | ActorClass:
    if inspect.isclass(target):
        return ActorClass(target, options)
    if inspect.isfunction(target):
        return RemoteFunction(target, options)
    if isinstance(target, (RemoteFunction, ActorClass, ActorHandle)):
        raise TypeError(f"{target!r} is remote already. Change its options with .options(...).")
    hint = " Wrap it in a function of your own." if callable(target) else ""
    raise WrongDecoration(
        f"The @raybook.remote decorator must be applied to either a function or a class, got {target!r}.{hint}"
    )
