"""Executions of the workflow: start and follow one, and its history as timeline, report, chart and page."""
