"""The history of the scheduler's schema; run by `distcloud.common.database.Database.migrate`."""
