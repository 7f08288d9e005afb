"""Delta files: their formats, columns, rules, versions, and what became of each."""
