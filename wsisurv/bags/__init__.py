"""One way from a case to its tiles."""
