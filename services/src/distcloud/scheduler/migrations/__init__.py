"""The history of the scheduler's schema; run by `distcloud.common.storage.database.Database.migrate`."""
