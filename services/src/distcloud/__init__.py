"""The engines of hep.distcloud: what turns regions into one distributed cloud."""

__version__ = "0.1.0"
