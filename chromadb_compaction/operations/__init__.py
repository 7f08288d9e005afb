"""An operator's actions on the bucket: roll back, replay, requeue, verify, pull, explain a record."""
