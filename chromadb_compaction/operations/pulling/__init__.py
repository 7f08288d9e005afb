"""Copies of a snapshot in a directory of the operator's: their markers, their merging, and their replacement."""
