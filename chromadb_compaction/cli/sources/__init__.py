"""The sources that `put` reads records from, its journal, and the transfer into deltas."""
