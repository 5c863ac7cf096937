-- What the log was counted to. One transaction writes the position and the counts, so they always agree.

-- Single values as JSON: 'position', 'totals', 'labels'.
CREATE TABLE state (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The counts of one label set: labels as JSON, cells packed by postcard (src/usage/series.rs). With a rowid, so that
-- what belongs together stays on one page when the counts grow.
CREATE TABLE series (
    id     INTEGER PRIMARY KEY,
    labels TEXT NOT NULL UNIQUE,
    cells  BLOB NOT NULL
);

-- Models that once had an answered request: their names may stand in the error metrics.
CREATE TABLE models (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

-- Rows read lately, a commit each: pairs of 64-bit little-endian id and fingerprint.
CREATE TABLE seen (
    seq     INTEGER PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    rows    BLOB NOT NULL
);

-- The last name of every channel, kept after new-api has deleted it.
CREATE TABLE channels (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);
