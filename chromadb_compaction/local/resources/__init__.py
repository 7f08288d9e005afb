"""How each resource type of the Pulumi program is made through boto3: one small function per type."""
