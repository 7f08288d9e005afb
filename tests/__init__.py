"""Tests: unit, contracts, statemachine, infra and end to end."""
