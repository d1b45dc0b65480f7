"""The control loop, keyed tasks, circuit breakers and child processes."""
