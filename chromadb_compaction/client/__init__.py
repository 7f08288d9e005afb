"""The interface for programs: `DeltaWriter` writes deltas and notifies the queue."""
