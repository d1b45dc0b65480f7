"""Helpers of the tests of calls to OpenStack."""
