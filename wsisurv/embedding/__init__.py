"""Step 2: tiles to features."""
