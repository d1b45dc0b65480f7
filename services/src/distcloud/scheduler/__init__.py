"""The Cloud Scheduler: boots workers for waiting jobs and retires them when there is no more work."""
