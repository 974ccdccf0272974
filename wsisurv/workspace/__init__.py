"""Paths, freshness, and the ledger of failures of a workspace."""
