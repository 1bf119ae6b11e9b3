"""Quarantines a file, or restores it: one thread, one vault, exit status 0 when the report says so. For strace.

Argument 1 is ``take`` or ``back``, 2 the vault, 3 the file. Run again it recovers, as a node does after a crash.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.vault_rig import VaultRig, quarantine_job, recover, restore_job
from workers.actions.base import AnyAction, values_of
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.errors import WorkerError


def main() -> int:
    what, vault, path = sys.argv[1], Path(sys.argv[2]), os.fsencode(sys.argv[3])
    host = VaultRig(vault).host()
    action: AnyAction = FileQuarantine() if what == "take" else FileUnquarantine()
    job = quarantine_job(path) if what == "take" else restore_job()
    kept = vault.with_suffix(f".{what}.claim")  # what the journal holds: durable before anything is touched
    if not kept.exists():
        kept.write_text(json.dumps(values_of(action.bind(job, host))))
    claim = action.claim_of(json.loads(kept.read_text()))
    print("begin", flush=True)
    try:
        report = recover(action, job, claim, host)
    except WorkerError as error:
        print(type(error).__name__, error.reason)
        return 3
    print(report.outcome, report.code)
    return 0 if report.outcome == "COMPLETED" else 3


sys.exit(main())
