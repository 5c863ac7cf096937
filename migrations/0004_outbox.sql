-- What people are to be told, and how far each message is. All times are Unix milliseconds.

-- What happened, as JSON (src/message/notice.rs): one row however many targets it goes to.
CREATE TABLE notices (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    -- Messages of one group keep their order.
    group_key  TEXT NOT NULL,
    facts      TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE INDEX notices_group ON notices (group_key, created_at);

-- Acts of the breaker that a notice waits for, to tell how they went. A row goes when the act is finished.
CREATE TABLE notice_waits (
    act    INTEGER NOT NULL,
    notice INTEGER NOT NULL,
    PRIMARY KEY (act, notice)
) WITHOUT ROWID;

CREATE INDEX notice_waits_notice ON notice_waits (notice);

-- One request to one target: a message, or a part of one that is too long for one request.
CREATE TABLE deliveries (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    notice        INTEGER NOT NULL,
    target        TEXT NOT NULL,
    group_key     TEXT NOT NULL,
    -- The message's place in the queue, which is the id of its first part, or the place of the message that it superseded:
    -- a group that has news all the time must not be put back all the time. Parts of a message share it.
    message       INTEGER NOT NULL,
    part          INTEGER NOT NULL,
    -- 0 until the message is composed, which is when it is first tried.
    parts         INTEGER NOT NULL,
    -- pending, leased (a request is under way until lease_until), sent, dead, superseded.
    state         TEXT NOT NULL,
    -- JSON, without anything secret; NULL before it is composed and after it was sent.
    body          TEXT,
    -- rich, plain or short: what the target made us fall back to.
    shape         TEXT NOT NULL,
    attempts      INTEGER NOT NULL,
    next_at       INTEGER NOT NULL,
    lease_until   INTEGER,
    -- It is given up then.
    expires_at    INTEGER NOT NULL,
    -- The message that says this one as well.
    superseded_by INTEGER,
    -- The last answer: its code, our word for it, and its own words.
    code          INTEGER,
    reason        TEXT NOT NULL,
    error         TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    sent_at       INTEGER
);

CREATE INDEX deliveries_live ON deliveries (target, message, part) WHERE state IN ('pending', 'leased');

CREATE INDEX deliveries_order ON deliveries (target, group_key, message, part)
    WHERE state IN ('pending', 'leased');

CREATE INDEX deliveries_notice ON deliveries (notice);

CREATE INDEX deliveries_message ON deliveries (message);

CREATE INDEX deliveries_superseded ON deliveries (superseded_by) WHERE superseded_by IS NOT NULL;

CREATE INDEX deliveries_finished ON deliveries (updated_at) WHERE state IN ('sent', 'dead', 'superseded');

-- Targets that asked for a pause.
CREATE TABLE pauses (
    target TEXT PRIMARY KEY,
    until  INTEGER NOT NULL
) WITHOUT ROWID;

-- Telegram groups that became supergroups, and the number that they have since.
CREATE TABLE moved_chats (
    chat     TEXT PRIMARY KEY,
    moved_to TEXT NOT NULL
) WITHOUT ROWID;
