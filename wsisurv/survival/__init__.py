"""Mathematics of survival on tensors and arrays; no files."""
