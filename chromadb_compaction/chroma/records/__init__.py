"""Records as ChromaDB returns them: in columns, and out of several directories as if they were one."""
