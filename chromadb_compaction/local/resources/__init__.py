"""The creation of each resource type of the Pulumi program through boto3: one small function per type."""
