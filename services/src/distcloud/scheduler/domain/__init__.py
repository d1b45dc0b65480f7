"""Value types of the scheduler: no I/O, no clock."""
