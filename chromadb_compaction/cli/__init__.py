"""The command line `chromadb-compaction`: one module per command."""


def main() -> None:
    """Run the command line and exit with its code (exits.ExitCode)."""
    from chromadb_compaction.cli.app import run

    run()
