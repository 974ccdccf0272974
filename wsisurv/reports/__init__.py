"""Step 3: reports to statements."""
