"""What the kernel does for a process that holds keys."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from vidfed.cli.process import keep_memory_private
keep_memory_private()
print(resource.getrlimit(resource.RLIMIT_CORE))
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


def test_a_process_that_holds_keys_leaves_no_core_file_and_cannot_be_looked_into() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["(0, 0)", "0"]
