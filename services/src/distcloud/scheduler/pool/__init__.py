"""The batch pool: waiting jobs, workers, and how workers are drained."""
