"""How many items of work are run."""
