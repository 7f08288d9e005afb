"""Views of stored state that commands print: status, checks, deltas, snapshots, and the refreshing screen."""
