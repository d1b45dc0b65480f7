"""Whether a job would run on a worker, asked of HTCondor's ClassAd library, which does not survive every question."""
