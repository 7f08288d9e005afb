"""The entry of `chromadb-compaction` and of `python -m chromadb_compaction`."""

from __future__ import annotations

import sys

from chromadb_compaction import __version__

USAGE = 2
"""The exit code of a usage error. The command line's own table of codes cannot be imported without its extra."""

EXTRA_OF = {
    "chromadb": "chroma",
    "fastapi": "serve",
    "ministack": "local",
    "numpy": "deltas",
    "opentelemetry_instrumentation_fastapi": "serve",
    "orjson": "deltas",
    "pulumi": "local",
    "pulumi_aws": "local",
    "pyarrow": "deltas",
    "rich": "cli",
    "typer": "cli",
    "uvicorn": "serve",
    "wordllama": "embed",
}
"""The extra of this distribution that installs each optional package."""


def main() -> None:
    """Run the command line and exit with its code. Exit with 2 when a command needs an extra that is not installed."""
    if sys.argv[1:] == ["--version"]:  # works without the extra `cli` too
        sys.stdout.write(f"chromadb-compaction {__version__}\n")
        return
    try:
        from chromadb_compaction.cli.app import run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        command = f"pip install 'chromadb-compaction[{EXTRA_OF[package]}]'"
        sys.stderr.write(f"error: this command needs {package}, which is not installed; next: {command}\n")
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
