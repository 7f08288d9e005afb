"""Compaction of ChromaDB collections kept on S3: deltas in, verified snapshots out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chromadb_compaction.client.writer import DeltaWriter

    __version__: str

__all__ = ["DeltaWriter", "__version__"]


# The small Lambda functions import this package without pyarrow, so each name is loaded when it is first used.
def __getattr__(name: str) -> object:
    if name == "DeltaWriter":
        try:
            from chromadb_compaction.client.writer import DeltaWriter
        except ModuleNotFoundError as error:
            message = f"DeltaWriter needs {error.name}; next: pip install 'chromadb-compaction[deltas]'"
            raise ModuleNotFoundError(message, name=error.name) from error
        return DeltaWriter
    if name == "__version__":
        from importlib.metadata import version

        return version("chromadb-compaction")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
