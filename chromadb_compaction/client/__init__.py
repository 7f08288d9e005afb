"""The interfaces for programs: `DeltaWriter` writes deltas, and `Client` is a ChromaDB client over the bucket."""
