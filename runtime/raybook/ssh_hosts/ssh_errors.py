"""ssh errors: what ssh says when it cannot, and what to do about it. Pure: a program's last words in, a sentence out."""

from __future__ import annotations

import re

SSH_FAILED = 255
"""ssh's own exit code for "I could not"; every other one is the remote command's."""

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "Its host key is not the one that is known. If the machine was set up anew, forget the old key "
        "(ssh-keygen -R {host}), connect once by hand (ssh {target}) and compare the new one.",
    ),
    (
        r"Host key verification failed",
        "Its host key is not known yet, and raybook trusts none by itself. Connect once by hand (ssh {target}), compare the "
        "key, or say `ssh_options: {{StrictHostKeyChecking: accept-new}}`.",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        "Others may read the key file, so ssh does not use it: chmod 600 it.",
    ),
    (
        r"Identity file .* not accessible|no such identity",
        "There is no such key file; correct `identity_file`.",
    ),
    (
        r"Too many authentication failures",
        "The agent offered too many keys before the right one: name it with `identity_file`.",
    ),
    (
        r"Permission denied",
        "The machine takes none of your keys, and raybook never asks for a password. Copy your key there "
        "(ssh-copy-id {target}), name the right one with `identity_file`, or correct the user.",
    ),
    (r"Could not resolve hostname", "No such name is known here: correct `host`, or write its IP address."),
    (r"Connection refused", "Nothing listens there: is sshd running, and at this port?"),
    (
        r"timed out|No route to host|Network is unreachable",
        "It cannot be reached: is it switched on, and on this network?",
    ),
    (r"Bad configuration option|keyword .* extra arguments", "ssh does not know one of `ssh_options`: correct it."),
    (r"command-line: line", "ssh does not understand one of `ssh_options`: correct it."),
)


def explain(target: str, host: str, said: str) -> str:
    """One sentence of ssh's own, and what to do. said: what it wrote to standard error."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\r")]
    for pattern, advice in _ADVICE:
        if re.search(pattern, said):
            own = next((line for line in reversed(lines) if re.search(pattern, line)), lines[-1] if lines else "")
            return f"ssh says: {own.rstrip('.')}. {advice.format(target=target, host=host)}"
    own = lines[-1] if lines else "nothing"
    return f"ssh says: {own.rstrip('.')}. Try `ssh {target} true` by hand; what works there works here."
