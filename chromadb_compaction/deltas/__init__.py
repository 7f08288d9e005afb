"""Delta files: their formats, columns, rules, names, outcomes and quarantine."""
