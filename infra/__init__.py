"""The Pulumi program: one component per concern, put together in program.py."""
