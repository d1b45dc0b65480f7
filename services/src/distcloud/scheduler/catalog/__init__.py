"""Desired state: groups, clouds and metadata, as stored and as the API changes it."""
