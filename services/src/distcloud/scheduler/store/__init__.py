"""The ledger of VMs and its tables."""
