"""What a server of a given size offers to jobs: the flavor less what the system on it needs."""

from __future__ import annotations

from typing import Final

from ..domain.model import Resources

# The kernel, its page structures and the daemons take a fixed part and a share that grows with the machine (HTCondor's own
# detection reads about 96 % of a flavor's memory); the worker's configuration sets MEMORY to this figure, so that what is
# planned is what is advertised.
RAM_FLOOR_MIB: Final = 64
RAM_SHARE: Final = 0.04
# The system on the root disk. Small disks keep at least half for jobs; HTCondor measures the real figure afterwards.
DISK_GIB: Final = 1.0
# A flavor of disk 0 boots a disk of the image's own size, which the flavor does not tell.
UNKNOWN_DISK_GIB: Final = 1.0


def offered(server: Resources) -> Resources:
    """The resources of the partitionable slot on a server of that size."""
    ram = server.ram_mib - max(RAM_FLOOR_MIB, int(server.ram_mib * RAM_SHARE))
    disk = server.disk_gib - min(DISK_GIB, server.disk_gib / 2) if server.disk_gib > 0 else UNKNOWN_DISK_GIB
    return Resources(server.cores, max(0, ram), disk)
