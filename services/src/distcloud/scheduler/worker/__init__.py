"""Configuration of a worker VM: HTCondor, credentials, cloud-init user data; and the slot ad that follows from it."""
