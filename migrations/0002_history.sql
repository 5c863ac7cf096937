-- What every counted row told, for HISTORY: blocks of up to 4000 rows, packed column by column, see src/history/.

CREATE TABLE history_blocks (
    block             INTEGER PRIMARY KEY,
    quota_per_unit    REAL NOT NULL,
    tier              INTEGER NOT NULL,
    rows              INTEGER NOT NULL,
    -- One bit for each outcome that a row has.
    outcomes          INTEGER NOT NULL,
    min_id            INTEGER NOT NULL,
    max_id            INTEGER NOT NULL,
    oldest            INTEGER NOT NULL,
    newest            INTEGER NOT NULL,
    longest_ms        INTEGER NOT NULL,
    -- Of answered requests; NULL if there is none.
    longest_answer_ms INTEGER,
    -- The newest row, but no later than a day after it was stored: a wrong clock keeps nothing for ever.
    expires_from      INTEGER NOT NULL
);

-- Blocks that will still be merged; there are few.
CREATE INDEX history_open ON history_blocks (block) WHERE tier < 3;

CREATE INDEX history_expiry ON history_blocks (expires_from);

-- One column of one block; place is block * 32 + number of the column.
CREATE TABLE history_columns (
    place INTEGER PRIMARY KEY,
    data  BLOB NOT NULL
);
