-- What the webhook took in. All times are Unix milliseconds.

-- Calls taken in lately, to recognise them when they come again. What is old is dropped.
CREATE TABLE events (
    id  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256 of what the call said, without its texts (src/alert/event.rs).
    key BLOB NOT NULL UNIQUE,
    at  INTEGER NOT NULL
);

CREATE INDEX events_at ON events (at);

-- An alert from when it fires until it is resolved.
CREATE TABLE incidents (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint   TEXT NOT NULL,
    rule          TEXT NOT NULL,
    severity      TEXT NOT NULL,
    -- NULL if its label names none that can be one.
    channel_id    INTEGER,
    -- As JSON, shortened; as they were last sent.
    labels        TEXT NOT NULL,
    annotations   TEXT NOT NULL,
    -- Who sends it: the receiver's name, and links.
    receiver      TEXT NOT NULL,
    generator_url TEXT,
    -- The earliest time at which it was said to have begun, and the latest.
    started_at    INTEGER NOT NULL,
    restarted_at  INTEGER NOT NULL,
    -- NULL while it fires.
    resolved_at   INTEGER,
    -- Calls that spoke of it: the first and the last, and how many.
    opened_at     INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    notifications INTEGER NOT NULL,
    -- When people were last told of it; NULL for never.
    told_at       INTEGER,
    -- What it asked of the breaker, in the ledger.
    act           INTEGER
);

CREATE INDEX incidents_episodes ON incidents (fingerprint, id);

CREATE INDEX incidents_firing ON incidents (id) WHERE resolved_at IS NULL;

CREATE INDEX incidents_resolved ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;

-- How the way to us is; one row.
CREATE TABLE pipeline (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    -- The last call that was taken in.
    last_webhook_at INTEGER,
    -- The last Watchdog.
    watchdog_at     INTEGER,
    -- People were told that the Watchdog is silent since then, and not yet that it is back.
    silent_since    INTEGER
);

INSERT INTO pipeline (id) VALUES (1);
