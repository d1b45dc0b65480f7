"""Print `kvm` if a guest boots with KVM on this machine, else `qemu`.

Run on the lab host: probe_kvm.py SECONDS. The guest is one boot sector that goes from real mode to 32-bit protected mode and writes a
marker to the first serial port. It is booted by emulation first and then with KVM, which has to show the marker within the given
seconds and about as soon as emulation did: where KVM itself is emulated by an outer hypervisor the BIOS crawls through, but no kernel
ever boots. Emulation is timed three times and the fastest counts: a slow emulation on a busy machine would make slow KVM look good.
"""

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MARKER = b"DISTCLOUD-GUEST-RUNS"

# cli; xor ax,ax; mov ds,ax; lgdt [gdtr]; mov eax,cr0; or al,1; mov cr0,eax; jmp 08:protected
REAL_MODE = bytes.fromhex("fa 31c0 8ed8 0f0116 507c 0f20c0 0c01 0f22c0 ea 207c 0800")
# mov ax,10; mov ds,ax; mov esi,marker; mov dx,3f8; next: lodsb; test al,al; jz halt; out dx,al; jmp next; halt: hlt; jmp halt
PROTECTED_MODE = bytes.fromhex("66b81000 8ed8 be607c0000 66baf803 ac 84c0 7403 ee ebf8 f4 ebfd")


def boot_sector() -> bytes:
    """The 512 bytes of the guest: code at 0, protected mode at 0x20, table register at 0x50, marker at 0x60, table at 0xa0."""
    table = bytes(8) + bytes.fromhex("ffff0000009acf00") + bytes.fromhex("ffff00000092cf00")
    sector = bytearray(512)
    sector[0 : len(REAL_MODE)] = REAL_MODE
    sector[0x20 : 0x20 + len(PROTECTED_MODE)] = PROTECTED_MODE
    sector[0x50:0x56] = bytes.fromhex("1700 a07c0000")
    sector[0x60 : 0x60 + len(MARKER) + 2] = MARKER + b"\n\0"
    sector[0xA0 : 0xA0 + len(table)] = table
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def time_to_marker(accelerator: str, seconds: float) -> float:
    """Seconds until the guest's marker appears; infinity if it does not appear in time."""
    with tempfile.TemporaryDirectory() as folder:
        disk, serial = Path(folder, "disk"), Path(folder, "serial")
        disk.write_bytes(boot_sector())
        serial.touch()
        machine = ["qemu-system-x86_64", "-accel", accelerator, "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"]
        devices = ["-drive", f"file={disk},format=raw,if=ide", "-serial", f"file:{serial}"]
        began = time.monotonic()
        try:
            guest = subprocess.Popen(machine + devices, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            return math.inf
        try:
            while time.monotonic() - began < seconds and guest.poll() is None:
                if MARKER in serial.read_bytes():
                    return time.monotonic() - began
                time.sleep(0.05)
            return math.inf
        finally:
            guest.kill()
            guest.wait()


def kvm_is_real(limit: float) -> bool:
    """Whether KVM boots the guest within the limit and not much later than emulation does."""
    emulated = min(time_to_marker("tcg", limit) for _try in range(3))
    return time_to_marker("kvm", min(limit, 2 * emulated + 0.5)) < math.inf


def answer(limit: float, device: Path = Path("/dev/kvm")) -> str:
    """The virtualization type for Nova."""
    return "kvm" if device.exists() and kvm_is_real(limit) else "qemu"


if __name__ == "__main__":
    sys.stdout.write(answer(float(sys.argv[1])) + "\n")
