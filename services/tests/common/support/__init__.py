"""Helpers that the tests of all engines share."""
