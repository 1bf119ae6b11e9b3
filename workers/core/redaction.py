"""Masks secrets in command lines before they are journalled, published or logged (SAFETY D24).

Called by ``adapters.processes`` and wherever an untrusted command line is recorded. Pure. It errs towards masking: what
an investigator loses is the value of one argument, and its name stays.
"""

import re
from collections.abc import Sequence
from typing import Final

MASK: Final = "***"

_WORD: Final = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth|credentials?)"
)
_NAMES: Final = rf"(?:[\w.-]*[_.-])?{_WORD}(?:[_.-][\w.-]*)?"
_CAMEL: Final = r"[\w.-]*(?:Password|Passwd|Secret|Token|ApiKey|AccessKey|PrivateKey|Credential)s?"

_FLAG: Final = re.compile(rf"--?(?:(?i:{_NAMES})|{_CAMEL})")
"""An option whose next word is the secret: ``--password hunter2``."""

_ASSIGNED: Final = re.compile(
    rf"(?P<name>(?<![\w-])-{{0,2}}(?:(?i:{_NAMES})|{_CAMEL})\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s&;,]+)"
)
"""``--password=x``, ``PGPASSWORD=x``, ``token: x``, ``?api_key=x&``."""

_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}"), MASK),
    (
        re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|hvs\.|npm_|pypi-|AIza)[\w-]{12,}"),
        MASK,
    ),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}"), rf"\1\2{MASK}"),
    (re.compile(r"(?P<scheme>\b[a-zA-Z][\w+.-]*://[^\s/:@]*):[^\s/@]+@"), rf"\g<scheme>:{MASK}@"),
)
"""Secrets by their own shape: PEM blocks, JSON web tokens, cloud and forge keys, HTTP credentials, URL passwords."""


def mask_arguments(arguments: Sequence[str]) -> str:
    """One line out of an argument vector, secrets masked.

    The vector is needed to see that ``--password`` is followed by its value; ``mask`` finds the rest in any text.
    """
    shown: list[str] = []
    secret_next = False
    for argument in arguments:
        if secret_next and not argument.startswith("-"):
            shown.append(MASK)
            secret_next = False
            continue
        secret_next = _FLAG.fullmatch(argument) is not None
        shown.append(_user_and_password(shown, mask(argument)))
    return mask(" ".join(shown))


def mask(text: str) -> str:
    """Any text, with what looks like a secret masked. Masking twice changes nothing."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _ASSIGNED.sub(rf"\g<name>{MASK}", text)


def _user_and_password(before: Sequence[str], argument: str) -> str:
    """curl's and wget's ``-u user:password``."""
    if before and before[-1] in {"-u", "--user", "--proxy-user", "-U"} and ":" in argument:
        return argument.partition(":")[0] + ":" + MASK
    return argument
