"""Delta files: their formats, columns, rules, names and outcomes."""
