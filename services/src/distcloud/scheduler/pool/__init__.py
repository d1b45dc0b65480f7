"""The batch pool: what waits, what works, and how a worker leaves."""
