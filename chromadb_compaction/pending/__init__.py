"""The deltas that no snapshot holds yet: how they are judged, and how readers join them with the published snapshot."""
