"""Tests of the OpenStack client."""
