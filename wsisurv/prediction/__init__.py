"""Step 6: features to risk."""
