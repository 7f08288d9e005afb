"""What each task does: one module per state of the workflow, one public function in each."""
