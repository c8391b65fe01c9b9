import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ds01 import events
from ds01.ledger import (
    Ledger,
    LedgerCorruptError,
    LedgerError,
    LedgerMissingError,
    LedgerNotReadyError,
    LedgerVersionError,
)
from ds01.ledger import leases as life
from ds01.ledger.backup import KEPT, back_up, backups, check
from ds01.ledger.devices import take_inventory
from ds01.ledger.migrate import bring_up_to_date
from ds01.ledger.recovery import ensure
from ds01.ledger.schema import MIGRATIONS
from tests.unit.ledger.machine import GPUS, IDS, claim_for

GARBAGE = b"not a database, whatever its name says " * 4096


@pytest.fixture(autouse=True)
def event_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "events.jsonl"
    monkeypatch.setattr(events, "EVENTS_FILE", log)
    return log


def grant(path: Path) -> None:
    with Ledger(path) as ledger, ledger.transaction() as tx:
        life.grant(tx, claim_for(tx).token, IDS[0], expires=tx.now + 1000)


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "empty":
        os.truncate(path, 0)
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2 - 7)
    elif how == "another":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE leases (id)")
    else:
        path.write_bytes(GARBAGE)


DAMAGES = ["missing", "empty", "truncated", "another", "garbage"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_ledger_grants_nothing(path: Path, how: str) -> None:
    damage(path, how)
    with pytest.raises((LedgerCorruptError, LedgerMissingError), match="ds01 enforce reconcile"):
        grant(path)
    assert path.exists() == (how != "missing"), "a ledger that is missing was made by who only uses it"


@pytest.mark.parametrize("how", DAMAGES)
def test_what_a_ledger_grants_while_it_is_lost_is_refused_to_its_container(
    path: Path, ledger: Ledger, tmp_path: Path, how: str
) -> None:
    with ledger.transaction() as tx:
        token = claim_for(tx).token
    damage(path, how)
    # Some damage shows only to who opens the file: then the lease is real until the ledger is set aside.
    with contextlib.suppress(LedgerError), ledger.transaction() as tx:
        life.grant(tx, token, IDS[0], expires=tx.now + 1000)
    assert ensure(path, tmp_path / "backups", deep=True) is not None
    with pytest.raises(LedgerError), ledger.transaction() as tx:
        life.bind(tx, token, "container", "work._.1000")
    with ledger.transaction() as tx:
        take_inventory(tx, GPUS)
        tx.set_verified()
    grant(path)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_ledger_is_kept_and_restored(path: Path, tmp_path: Path, event_log: Path, how: str) -> None:
    copies = tmp_path / "backups"
    with Ledger(path) as ledger:
        back_up(ledger, copies)
    grant(path)
    damage(path, how)
    before = path.read_bytes() if path.exists() else None
    done = ensure(path, copies, deep=True)
    assert done is not None
    assert done.restored == backups(copies)[0]
    if before is not None:
        assert done.kept is not None
        assert done.kept.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert "restored from the backup" in event_log.read_text()
    with Ledger(path) as ledger, ledger.read() as view:
        assert life.live(view) == [], "the lease is younger than the backup"
    with pytest.raises(LedgerNotReadyError):
        grant(path)
    assert ensure(path, copies, deep=True) is None


def test_a_damaged_backup_is_passed_over(path: Path, tmp_path: Path) -> None:
    copies = tmp_path / "backups"
    with Ledger(path) as ledger:
        first = back_up(ledger, copies)
        second = back_up(ledger, copies)
    second.write_bytes(GARBAGE)
    path.unlink()
    done = ensure(path, copies)
    assert done is not None
    assert done.restored == first


def test_without_a_backup_a_new_ledger_begins(path: Path, tmp_path: Path, event_log: Path) -> None:
    path.write_bytes(GARBAGE)
    done = ensure(path, tmp_path / "backups")
    assert done is not None
    assert done.restored is None
    assert "begun anew" in event_log.read_text()
    check(path)


def test_a_ledger_that_somebody_removed_is_an_incident(path: Path, tmp_path: Path, event_log: Path) -> None:
    grant(path)
    for left in path.parent.glob("ledger.db*"):
        left.unlink()
    assert ensure(path, tmp_path / "backups") is not None
    assert "begun anew" in event_log.read_text()


def test_the_first_ledger_of_a_host_is_no_incident(tmp_path: Path, event_log: Path) -> None:
    assert ensure(tmp_path / "ledger.db", tmp_path / "backups") is not None
    assert not event_log.exists()


def test_backups_are_whole_and_few(ledger: Ledger, tmp_path: Path) -> None:
    copies = tmp_path / "backups"
    made = [back_up(ledger, copies) for _ in range(KEPT + 2)]
    assert backups(copies) == made[: -KEPT - 1 : -1]
    for copy in backups(copies):
        check(copy)
        assert copy.stat().st_mode & 0o777 == 0o600
    assert copies.stat().st_mode & 0o777 == 0o700


def test_an_older_ledger_is_copied_and_brought_up_to_date(path: Path) -> None:
    extra = (*MIGRATIONS, "CREATE TABLE more (x INTEGER) STRICT;\nINSERT INTO more VALUES (1);")
    connection = sqlite3.connect(path, isolation_level=None)
    bring_up_to_date(connection, path, extra)
    assert connection.execute("SELECT x FROM more").fetchall() == [(1,)]
    copies = list(path.parent.glob(f"ledger.db.before-version-{len(extra)}.*"))
    assert len(copies) == 1
    check(copies[0])
    with pytest.raises(LedgerVersionError, match="install the later"):
        grant(path)


@pytest.mark.parametrize("version", [0, -1, -(2**31)])
def test_a_ledger_that_has_no_version_is_damaged(path: Path, tmp_path: Path, version: int) -> None:
    grant(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(LedgerCorruptError, match=rf"its version is {version}\).*`ds01 enforce reconcile`"):
        grant(path)
    done = ensure(path, tmp_path / "backups")
    assert done is not None
    assert done.kept is not None
    check(path)


def test_a_later_ledger_is_left_alone_and_one_that_is_known_begins_anew(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as ledger:
        copy = back_up(ledger, tmp_path / "backups")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with Ledger(copy) as ledger:
        later = back_up(ledger, tmp_path / "backups")
    with contextlib.closing(sqlite3.connect(later)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerVersionError, match=r"install the later DS01 again, or move .* elsewhere"):
        ensure(path, tmp_path / "backups")
    for one in path.parent.glob("ledger.db*"):
        one.unlink()
    done = ensure(path, tmp_path / "backups")
    assert done is not None
    assert done.restored == copy


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    extra = (*MIGRATIONS, "CREATE TABLE more (x INTEGER) STRICT;\nINSERT INTO more VALUES ('no number');")
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError):
        bring_up_to_date(connection, path, extra)
    check(path)
    grant(path)


OPEN_FILES = """
import resource, sys
from pathlib import Path
from ds01.ledger import LedgerError, recovery
from ds01.ledger.clock import boot_id
boot_id()
path = Path(sys.argv[1])
for most in range(3, 12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, 4096))
    try:
        assert recovery.ensure(path, path.with_name("backups")) is None
    except LedgerError as error:
        print(error, flush=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
"""


def test_a_ledger_that_cannot_be_opened_now_is_not_set_aside(path: Path) -> None:
    """No more files may be opened, or no file can be made beside it: that is no damage."""
    done = subprocess.run([sys.executable, "-c", OPEN_FILES, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be opened" in done.stdout
    assert not list(path.parent.glob("*.damaged.*"))
    with Ledger(path) as ledger, ledger.transaction() as tx:
        tx.require_verified()


def test_a_disk_that_became_read_only_is_said_and_the_ledger_not_set_aside(path: Path) -> None:
    look = "import sys; from pathlib import Path; from ds01.ledger import recovery, LedgerReadOnlyError\n"
    look += "try: recovery._probe(Path(sys.argv[1]), deep=False)\nexcept LedgerReadOnlyError as error: print(error)"
    there = path.parent
    mounts = f'mount --bind {there} {there} && mount -o remount,bind,ro {there} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", mounts, "sh", sys.executable, "-c", look, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Read-only file system: `dmesg` says why" in done.stdout
    assert path.is_file()
