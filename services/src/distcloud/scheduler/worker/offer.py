"""What a server of a given size offers to jobs: the flavor minus what its operating system needs."""

from __future__ import annotations

from typing import Final

from ..domain.model import Resources

# The kernel, its page tables and the daemons take a fixed amount plus a share of the memory (HTCondor's own detection reports
# about 96 % of a flavor's memory). The worker's configuration sets MEMORY to the result, so that the plan equals the ad.
RAM_FLOOR_MIB: Final = 64
RAM_SHARE: Final = 0.04
# The operating system on the root disk. Small disks keep at least half for jobs; HTCondor measures the real value later.
DISK_GIB: Final = 1.0
# A flavor with disk 0 boots a disk of the image's size, which is not known here.
UNKNOWN_DISK_GIB: Final = 1.0


def offered(server: Resources) -> Resources:
    """The resources of the partitionable slot on a server of that size."""
    ram = server.ram_mib - max(RAM_FLOOR_MIB, int(server.ram_mib * RAM_SHARE))
    disk = server.disk_gib - min(DISK_GIB, server.disk_gib / 2) if server.disk_gib > 0 else UNKNOWN_DISK_GIB
    return Resources(server.cores, max(0, ram), disk)
