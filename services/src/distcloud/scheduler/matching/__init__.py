"""Whether a job would run on a worker, answered by HTCondor's ClassAd library in a child process."""
