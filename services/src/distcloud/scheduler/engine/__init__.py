"""The engine loop: observe clouds and pool, update the ledger, plan, and carry the plan out."""
