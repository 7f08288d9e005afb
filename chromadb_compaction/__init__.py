"""Compaction of ChromaDB collections kept on S3: deltas in, verified snapshots out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chromadb_compaction.client.chroma_client import Client
    from chromadb_compaction.client.writer import DeltaWriter

    __version__: str

__all__ = ["Client", "DeltaWriter", "__version__"]

_MODULES = {
    "Client": ("chromadb_compaction.client.chroma_client", "chroma"),
    "DeltaWriter": ("chromadb_compaction.client.writer", "deltas"),
}
"""The module of each name, and the extra that it needs."""


# The small Lambda functions import this package without pyarrow and chromadb, so each name is loaded at its first use.
def __getattr__(name: str) -> object:
    if name in _MODULES:
        module, extra = _MODULES[name]
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            message = f"{name} needs {error.name}; next: pip install 'chromadb-compaction[{extra}]'"
            raise ModuleNotFoundError(message, name=error.name) from error
    if name == "__version__":
        from importlib.metadata import version

        return version("chromadb-compaction")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
