"""The commands, one module each: parse the arguments, make one call, show its result."""
