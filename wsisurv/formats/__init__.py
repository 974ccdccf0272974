"""What is on disk: one module an artifact."""
