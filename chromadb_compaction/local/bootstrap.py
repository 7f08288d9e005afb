"""The code package of every local function: a bootstrap that runs the code of this checkout or this wheel.

All functions are deployed with the custom runtime `provided.al2023`: ministack loses the error types of `python*`
runtimes, and needs docker for images.
"""

from __future__ import annotations

import io
import shlex
import sys
import zipfile

from chromadb_compaction.local.program import PYTHONPATH

RUNTIME = "provided.al2023"
_EXECUTABLE = 0o755 << 16


def bootstrap_zip(nonce: str) -> bytes:
    """Return the package. A new `nonce` makes ministack end the warm workers, which hold old code."""
    return zip_of_script(
        "#!/bin/sh\n"
        f"# {nonce}\n"
        f"export PYTHONPATH={shlex.quote(PYTHONPATH)}\n"
        f"exec {shlex.quote(sys.executable)} -m chromadb_compaction.local.runtime\n"
    )


def zip_of_script(script: str) -> bytes:
    """Return a zip that holds `script` as the executable file `bootstrap`."""
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = _EXECUTABLE
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr(entry, script)
    return buffer.getvalue()
