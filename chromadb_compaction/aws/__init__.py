"""Everything that calls boto3: clients, objects, lease, queue, workflow, and the translation of errors."""
