"""What a worker VM is told at its birth: HTCondor's configuration, its credentials, cloud-init; and the slot ad that follows from it."""
