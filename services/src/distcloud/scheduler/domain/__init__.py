"""Plain values of the scheduler: no I/O, no clock."""
