"""Parts that every command shares: clients, output, exit codes, formatting."""
