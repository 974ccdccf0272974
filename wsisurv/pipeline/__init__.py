"""Steps one after another."""
