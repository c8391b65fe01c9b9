"""The tables, and how an older ledger becomes one of this version.

Times are UTC milliseconds. What must never be wrong is a constraint here, so that no path through the code can break
it. A change of the tables is one more entry of `MIGRATIONS`; entries that were released are never edited.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- What can be granted: whole GPUs and MIG devices, those that went away included.
CREATE TABLE devices (
    uuid TEXT PRIMARY KEY CHECK (uuid <> ''),
    gpu_uuid TEXT NOT NULL,
    gpu_index INTEGER NOT NULL CHECK (gpu_index >= 0),
    mig_index INTEGER CHECK (mig_index >= 0),
    gi INTEGER, ci INTEGER, start INTEGER, size INTEGER,
    profile TEXT NOT NULL,
    memory INTEGER NOT NULL CHECK (memory >= 0),
    weight REAL NOT NULL CHECK (weight > 0 AND weight <= 1),
    model TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'unhealthy', 'draining', 'gone')),
    reason TEXT,
    CHECK ((mig_index IS NULL) = (gi IS NULL) AND (start IS NULL) = (size IS NULL))
) STRICT;

-- Who uses a device without a lease. Several may use the same one; none of them is ever disturbed.
CREATE TABLE occupancy (
    kind TEXT NOT NULL CHECK (kind IN ('container', 'process')),
    id TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices,
    name TEXT NOT NULL,
    uid INTEGER,
    since INTEGER NOT NULL,
    legacy INTEGER NOT NULL DEFAULT 0 CHECK (legacy IN (0, 1)),
    PRIMARY KEY (kind, id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX occupancy_by_device ON occupancy (device);

-- One for each container that asked for GPUs, for its life.
CREATE TABLE claims (
    token TEXT PRIMARY KEY CHECK (length(token) BETWEEN 16 AND 64 AND token NOT GLOB '*[^a-z0-9]*'),
    uid INTEGER NOT NULL CHECK (uid >= 0),
    user TEXT NOT NULL,
    group_name TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    request TEXT NOT NULL CHECK (json_valid(request)),
    container_id TEXT UNIQUE CHECK (container_id <> ''),
    container_name TEXT,
    created INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    closed INTEGER,
    CHECK ((state = 'closed') = (closed IS NOT NULL))
) STRICT;
CREATE INDEX open_claims ON claims (uid) WHERE state = 'open';

CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL REFERENCES claims,
    device TEXT NOT NULL REFERENCES devices,
    state TEXT NOT NULL CHECK (state IN ('pending', 'bound', 'running', 'held', 'released')),
    created INTEGER NOT NULL,
    expires INTEGER,
    started INTEGER,
    stopped INTEGER,
    hold_until INTEGER,
    released INTEGER,
    reason TEXT,
    CHECK (state <> 'pending' OR expires IS NOT NULL),
    CHECK (state NOT IN ('running', 'held') OR started IS NOT NULL),
    CHECK (state <> 'held' OR stopped IS NOT NULL),
    CHECK ((state = 'released') = (released IS NOT NULL))
) STRICT;
-- The promise of DS01: a device has at most one lease.
CREATE UNIQUE INDEX one_lease_per_device ON leases (device) WHERE state <> 'released';
CREATE INDEX live_leases ON leases (token) WHERE state <> 'released';
CREATE INDEX leases_by_token ON leases (token);
CREATE TRIGGER lease_begins BEFORE INSERT ON leases
WHEN NOT EXISTS (SELECT 1 FROM claims WHERE token = NEW.token AND state = 'open')
BEGIN SELECT RAISE(ABORT, 'a lease needs an open claim'); END;
CREATE TRIGGER lease_moves BEFORE UPDATE OF state, token, device ON leases
WHEN NEW.token <> OLD.token OR NEW.device <> OLD.device
  OR (NEW.state <> OLD.state AND OLD.state || '>' || NEW.state NOT IN (
    'pending>bound', 'pending>released', 'bound>running', 'bound>released',
    'running>held', 'running>released', 'held>running', 'held>released'))
BEGIN SELECT RAISE(ABORT, 'this is no legal transition of a lease'); END;
CREATE TRIGGER claim_ends BEFORE UPDATE OF state ON claims
WHEN (OLD.state = 'closed' AND NEW.state <> 'closed') OR (NEW.state = 'closed'
    AND EXISTS (SELECT 1 FROM leases WHERE token = OLD.token AND state <> 'released'))
BEGIN SELECT RAISE(ABORT, 'a claim is closed once, after its leases are released'); END;

-- Whose an object of the engine is; uid is null for nobody's. Rows of removed objects stay.
CREATE TABLE objects (
    kind TEXT NOT NULL CHECK (kind IN ('container', 'volume', 'network', 'image')),
    engine_id TEXT NOT NULL CHECK (engine_id <> ''),
    name TEXT NOT NULL,
    uid INTEGER,
    created INTEGER NOT NULL,
    removed INTEGER,
    legacy INTEGER NOT NULL DEFAULT 0 CHECK (legacy IN (0, 1)),
    PRIMARY KEY (kind, engine_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX objects_by_name ON objects (kind, name) WHERE removed IS NULL;
CREATE INDEX objects_by_owner ON objects (uid, kind) WHERE removed IS NULL;

CREATE TABLE reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER,
    user TEXT,
    group_name TEXT NOT NULL,
    request TEXT NOT NULL CHECK (json_valid(request)),
    starts INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'active', 'done', 'cancelled', 'missed')),
    source TEXT NOT NULL CHECK (source IN ('policy', 'command')),
    reason TEXT,
    created_by TEXT NOT NULL,
    created INTEGER NOT NULL,
    CHECK (ends > starts)
) STRICT;
CREATE INDEX coming_reservations ON reservations (starts) WHERE state IN ('planned', 'active');
CREATE TABLE reservation_devices (
    reservation INTEGER NOT NULL REFERENCES reservations,
    device TEXT NOT NULL REFERENCES devices,
    PRIMARY KEY (reservation, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    group_name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    request TEXT NOT NULL CHECK (json_valid(request)),
    created INTEGER NOT NULL,
    expires INTEGER,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'granted', 'cancelled', 'expired')),
    token TEXT REFERENCES claims,
    ended INTEGER,
    reason TEXT,
    CHECK ((state = 'waiting') = (ended IS NULL))
) STRICT;
CREATE INDEX waiting ON queue (uid) WHERE state = 'waiting';

-- For how long a claim kept a device from others, container running or device held for it. Kept for ever.
CREATE TABLE usage (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lease INTEGER NOT NULL REFERENCES leases,
    device TEXT NOT NULL REFERENCES devices,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    group_name TEXT NOT NULL,
    weight REAL NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('running', 'held')),
    opened_at INTEGER NOT NULL,
    opened_boot TEXT NOT NULL,
    opened_boot_ms INTEGER NOT NULL,
    closed_at INTEGER,
    gpu_ms INTEGER CHECK (gpu_ms >= 0),
    CHECK (closed_at >= opened_at),
    CHECK ((closed_at IS NULL) = (gpu_ms IS NULL))
) STRICT;
CREATE UNIQUE INDEX open_usage ON usage (device) WHERE closed_at IS NULL;
CREATE INDEX usage_by_device ON usage (device, closed_at);
CREATE INDEX usage_by_person ON usage (uid, closed_at);
CREATE TRIGGER usage_is_final BEFORE UPDATE ON usage WHEN OLD.closed_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a closed interval is final'); END;
CREATE TRIGGER usage_stays BEFORE DELETE ON usage BEGIN SELECT RAISE(ABORT, 'usage is kept'); END;

CREATE TABLE usage_daily (
    day TEXT NOT NULL CHECK (day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    uid INTEGER NOT NULL,
    group_name TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices,
    running_ms INTEGER NOT NULL DEFAULT 0 CHECK (running_ms >= 0),
    held_ms INTEGER NOT NULL DEFAULT 0 CHECK (held_ms >= 0),
    PRIMARY KEY (day, uid, group_name, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_daily_by_person ON usage_daily (uid, day);

CREATE TABLE exemptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT,
    created INTEGER NOT NULL,
    expires INTEGER,
    ended INTEGER,
    reason TEXT NOT NULL,
    approved_by TEXT NOT NULL
) STRICT;
CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT,
    created INTEGER NOT NULL,
    expires INTEGER,
    ended INTEGER,
    reason TEXT NOT NULL,
    approved_by TEXT NOT NULL
) STRICT;

-- Until what is running has been compared with a new ledger, nothing is granted.
INSERT INTO meta VALUES ('unverified', 'new');

-- How long a container ran, was stopped and did nothing, what its owner was told, and how it ended. Durations are sums
-- of what was observed by the clock since boot, so neither restarts nor a clock that is set change them. The fields
-- `told` are how long it had been idle, had run or had been stopped at the last warning: between that and the end there
-- is time, also when the limit was shortened in between.
CREATE TABLE lifecycle (
    container TEXT PRIMARY KEY CHECK (container <> ''),
    name TEXT NOT NULL,
    uid INTEGER,
    running INTEGER NOT NULL DEFAULT 0 CHECK (running IN (0, 1)),
    seen INTEGER NOT NULL,
    seen_boot TEXT NOT NULL,
    seen_boot_ms INTEGER NOT NULL,
    ran_ms INTEGER NOT NULL DEFAULT 0 CHECK (ran_ms >= 0),
    stopped_ms INTEGER NOT NULL DEFAULT 0 CHECK (stopped_ms >= 0),
    removal_told INTEGER,
    runtime_warned INTEGER NOT NULL DEFAULT 0,
    runtime_told INTEGER NOT NULL DEFAULT 0,
    idle_ms INTEGER NOT NULL DEFAULT 0 CHECK (idle_ms >= 0),
    idle_boot TEXT NOT NULL DEFAULT '',
    idle_boot_ms INTEGER NOT NULL DEFAULT 0,
    idle_why TEXT NOT NULL DEFAULT '',
    idle_warned INTEGER NOT NULL DEFAULT 0,
    idle_told INTEGER NOT NULL DEFAULT 0,
    kept_until INTEGER,
    kept_ms INTEGER NOT NULL DEFAULT 0 CHECK (kept_ms >= 0),
    extended_ms INTEGER NOT NULL DEFAULT 0 CHECK (extended_ms >= 0),
    ended INTEGER,
    ended_rule TEXT,
    ended_reason TEXT,
    CHECK ((ended IS NULL) = (ended_rule IS NULL) AND (ended IS NULL) = (ended_reason IS NULL))
) STRICT, WITHOUT ROWID;

-- What people are to be told; shown at their next login, and on request.
CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('warning', 'stopped', 'removed', 'notice')),
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    shown INTEGER
) STRICT;
CREATE INDEX notices_of ON notices (uid, at);

-- What people's containers, volumes and images take, as it was measured last; nothing is here of who has none.
CREATE TABLE disk_use (
    uid INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('container', 'volume', 'image')),
    engine_id TEXT NOT NULL CHECK (engine_id <> ''),
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (uid, kind, engine_id)
) STRICT, WITHOUT ROWID;

-- On which ways a notice goes to whom it concerns. Rows with one message number go out together, as one message.
CREATE TABLE deliveries (
    notice INTEGER NOT NULL REFERENCES notices ON DELETE CASCADE,
    channel TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dropped')),
    message TEXT,
    tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    not_before INTEGER NOT NULL DEFAULT 0,
    ended INTEGER,
    reason TEXT,
    CHECK ((state = 'waiting') = (ended IS NULL)),
    CHECK (state <> 'sent' OR message IS NOT NULL),
    PRIMARY KEY (notice, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting_deliveries ON deliveries (channel) WHERE state = 'waiting';
CREATE INDEX ended_deliveries ON deliveries (channel, ended);
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
"""Entry N turns a ledger of version N into one of version N + 1."""
