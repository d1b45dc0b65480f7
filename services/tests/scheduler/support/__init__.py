"""Helpers of the scheduler tests: fakes, builders, strategies and the simulated site."""
