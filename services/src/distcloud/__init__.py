"""The engines of hep.distcloud, which turn regions into one distributed cloud."""

__version__ = "0.1.0"
