"""Database, locks and migrations of an engine."""
