"""The code package of every local function: a bootstrap that runs the code of this checkout or this wheel.

All functions are deployed with the custom runtime `provided.al2023`, since ministack loses the error types of
`python*` runtimes and would need docker for images.
"""

from __future__ import annotations

import io
import shlex
import sys
import zipfile

from chromadb_compaction.local.program import PYTHONPATH

RUNTIME = "provided.al2023"
EXECUTABLE = 0o755 << 16


def bootstrap_zip(nonce: str) -> bytes:
    """Return the package. A new `nonce` makes ministack drop warm workers, which hold old code."""
    script = (
        "#!/bin/sh\n"
        f"# {nonce}\n"
        f"export PYTHONPATH={shlex.quote(PYTHONPATH)}\n"
        f"exec {shlex.quote(sys.executable)} -m chromadb_compaction.local.runtime\n"
    )
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = EXECUTABLE
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr(entry, script)
    return buffer.getvalue()
