"""ClassAd matching of jobs and workers by HTCondor's own library, in a child process."""
