"""The test runner behind `tests/run.py`: steps, layers, scenarios, and how they are executed and counted."""
