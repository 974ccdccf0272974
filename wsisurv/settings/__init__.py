"""What made a file: one module a step."""
