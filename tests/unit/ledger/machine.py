"""A machine of four devices and a clock that goes as told."""

from ds01.gpu.model import FULL, Device, Gpu, Inventory, Placement
from ds01.ledger import Moment, Transaction
from ds01.ledger.leases import open_claim
from ds01.ledger.rows import Claim

START_MS = 1_790_000_000_000


class Time:
    """Both clocks. `spend` is time that passes; `set_wall` is somebody who sets the clock; `reboot` is that."""

    def __init__(self) -> None:
        self.wall, self.boot, self.since_boot = START_MS, 1, 5_000

    def __call__(self) -> Moment:
        return Moment(self.wall, f"boot-{self.boot}", self.since_boot)

    def spend(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.since_boot += milliseconds

    def set_wall(self, by_ms: int) -> None:
        self.wall = max(0, self.wall + by_ms)

    def reboot(self, off_ms: int) -> None:
        self.wall += off_ms
        self.boot, self.since_boot = self.boot + 1, 5_000


def device(gpu: int, mig: int | None = None) -> Device:
    whole = mig is None
    return Device(
        uuid=f"GPU-{gpu}" if whole else f"MIG-{gpu}-{mig}",
        gpu_uuid=f"GPU-{gpu}",
        gpu_index=gpu,
        mig_index=mig,
        gi_id=None if mig is None else 3 + mig,
        ci_id=None if whole else 0,
        placement=None if mig is None else Placement(2 * mig, 2),
        profile=FULL if whole else "2g.20gb",
        memory_bytes=80 << 30 if whole else 20 << 30,
        weight=1.0 if whole else 2 / 7,
        model="NVIDIA A100-SXM4-80GB",
    )


def machine(*gpus: tuple[Device, ...]) -> Inventory:
    return Inventory(
        tuple(
            Gpu(
                index=parts[0].gpu_index,
                uuid=parts[0].gpu_uuid,
                model=parts[0].model,
                pci_address=f"0000:{parts[0].gpu_index:02x}:00.0",
                memory_bytes=80 << 30,
                mig_capable=True,
                mig_enabled=parts[0].mig_index is not None,
                mig_pending=parts[0].mig_index is not None,
                devices=parts,
            )
            for parts in gpus
        )
    )


GPUS = machine((device(0),), (device(1, 0), device(1, 1), device(1, 2)))
IDS = tuple(found.uuid for found in GPUS.devices)


def claim_for(tx: Transaction, uid: int = 1000, group: str = "student", token: str | None = None) -> Claim:
    return open_claim(tx, uid=uid, user=f"user{uid}", group_name=group, priority=10, request="{}", token=token)
