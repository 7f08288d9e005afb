"""Everything that calls boto3: clients, object store, lease store, queue, workflow, and the translation of their errors."""
