"""The workflow's tasks, the functions beside it (query, produce, start), and the parts that they are made of."""
