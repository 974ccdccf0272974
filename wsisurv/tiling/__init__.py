"""Step 1: slides to tiles."""
