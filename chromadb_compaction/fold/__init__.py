"""The fold: base and runs to the next version of one collection or several, within memory and disk."""
