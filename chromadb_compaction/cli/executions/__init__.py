"""Executions of the workflow: their status, history, failure report, chart and HTML page."""
