"""The scheduler's REST API. `schemas` has no dependency on the rest: clients import it alone."""
