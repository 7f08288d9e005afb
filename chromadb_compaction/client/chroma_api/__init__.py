"""ChromaDB's interface over a bucket: its calls, what they write and read, and the HTTP server that offers them."""
