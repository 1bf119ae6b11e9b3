"""Masks secrets in command lines and environments before they are journalled, published or logged.

Called by ``host.processes`` and wherever an untrusted command line is recorded. Pure. It errs towards masking: what
an investigator loses is the value of one argument, and its name stays.
"""

import re
from collections.abc import Sequence
from typing import Final

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth"
    r"|credentials?)(?:$|[_.-])"
    r"|(?:password|passwd|passphrase|secret|token|apikey|accesskey|privatekey|credential)s?$"
)
"""What marks a name as that of a secret: one of these parts between separators, or an end like ``PGPASSWORD``'s."""

_NAME: Final = re.compile(r"(?<![\w.-])(?P<name>[\w.-]++)\s*+[=:]\s*+")
"""``--password=``, ``PGPASSWORD=``, ``token:``, ``?api_key=``. Possessive: hostile text must not make it slow."""

_VALUE: Final = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s&;,]+")

_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}"), MASK),
    (
        re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|hvs\.|npm_|pypi-|AIza)[\w-]{12,}"),
        MASK,
    ),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}"), rf"\1\2{MASK}"),
    (re.compile(r"(?P<scheme>\b[a-zA-Z][\w+.-]{0,31}://[^\s/:@]*):[^\s/@]+@"), rf"\g<scheme>:{MASK}@"),
)
"""Secrets by their own shape: PEM blocks, JSON web tokens, cloud and forge keys, HTTP credentials, URL passwords."""

_HINTS: Final = (
    *("pass", "pwd", "secret", "token", "key", "auth", "credential", "begin ", "eyj", "akia", "asia", "aroa", "aida"),
    *(
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "xox",
        "sk-",
        "sk_live_",
        "hvs.",
        "npm_",
        "pypi-",
    ),
    *("aiza", "bearer", "basic", "://", "-u ", "-user "),
)
"""Most texts hold none of these and are not searched any further."""


_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

_HARMLESS: Final = frozenset(
    re.findall(
        r"\w+",
        """
    COLORTERM CONTAINER DISPLAY EDITOR HISTFILE HOME HOSTNAME INVOCATION_ID JOURNAL_STREAM KUBERNETES_SERVICE_HOST
    KUBERNETES_SERVICE_PORT LANG LANGUAGE LD_AUDIT LD_LIBRARY_PATH LD_PRELOAD LOGNAME MAIL MAINPID MANPATH
    NOTIFY_SOCKET OLDPWD PATH PERL5LIB PWD PYTHONHOME PYTHONPATH RUBYLIB SHELL SHLVL SSH_CLIENT SSH_CONNECTION SSH_TTY
    SUDO_GID SUDO_UID SUDO_USER SYSTEMD_EXEC_PID TEMP TERM TMP TMPDIR TZ USER WATCHDOG_PID WATCHDOG_USEC
    XDG_RUNTIME_DIR XDG_SESSION_CLASS XDG_SESSION_ID XDG_SESSION_TYPE container
    """,
    )
)
"""Variables whose meaning is known, and is no secret: where a process came from, and what it loads."""


def shown_variable(entry: str) -> tuple[str, str | None]:
    """One entry of an environment (``NAME=value``) as it may be shown: the name, and the value only where it is known
    to be harmless. An entry without a valid name is masked whole: a process can overwrite its environment."""
    name, found, value = entry.partition("=")
    if not found or not _VARIABLE.fullmatch(name):
        return MASK, None
    harmless = name in _HARMLESS or name.startswith("LC_")
    return mask(name), mask(value) if harmless else None


def mask_arguments(arguments: Sequence[str]) -> str:
    """One line out of an argument vector, secrets masked.

    The vector is needed to see that ``--password`` is followed by its value; ``mask`` finds the rest in any text.
    """
    plain = " ".join(arguments)
    if not _may_hold_a_secret(plain):
        return plain
    shown: list[str] = []
    secret_next = False
    for argument in arguments:
        if secret_next and not argument.startswith("-"):
            shown.append(MASK)
            secret_next = False
            continue
        secret_next = argument.startswith("-") and "=" not in argument and _SECRET_NAME.search(argument) is not None
        shown.append(_user_and_password(shown, mask(argument)))
    return mask(" ".join(shown))


def mask(text: str) -> str:
    """Any text, with everything that looks like a secret masked. Masking twice changes nothing."""
    if not _may_hold_a_secret(text):
        return text
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _without_assigned(text)


def _may_hold_a_secret(text: str) -> bool:
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _without_assigned(text: str) -> str:
    """The values of names that are secrets' names, masked."""
    kept: list[str] = []
    copied = 0
    for found in _NAME.finditer(text):
        if found.start() < copied or _SECRET_NAME.search(found["name"]) is None:
            continue
        value = _VALUE.match(text, found.end())
        if value is not None:
            kept += text[copied : found.end()], MASK
            copied = value.end()
    return "".join((*kept, text[copied:]))


def _user_and_password(before: Sequence[str], argument: str) -> str:
    """curl's and wget's ``-u user:password``."""
    if before and before[-1] in {"-u", "--user", "--proxy-user", "-U"} and ":" in argument:
        return argument.partition(":")[0] + ":" + MASK
    return argument
