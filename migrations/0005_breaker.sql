-- What was asked of the circuit breaker, what it did, and which channels it holds disabled. Times are unix milliseconds.

CREATE TABLE acts (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- trip, restore
    kind         TEXT NOT NULL,
    -- NULL if the alert named no channel.
    channel_id   INTEGER,
    -- Then, what its label says, shortened.
    channel_text TEXT,
    -- Who asked, as JSON (breaker::act::Origin).
    origin       TEXT NOT NULL,
    -- The incident of an alert.
    incident     INTEGER,
    -- The act whose channel a schedule restores.
    parent       INTEGER,
    -- One act for each: an episode of an alert, or a try to restore what an act disabled. NULL for operators.
    episode      TEXT UNIQUE,
    -- An operator's words, or the rule of the alert.
    reason       TEXT NOT NULL,
    -- When the alert is said to have begun.
    starts_at    INTEGER,
    asked_at     INTEGER NOT NULL,
    -- Since when it is being tried; later than asked_at if a repeated alert asked again.
    tried_from   INTEGER NOT NULL,
    -- The incident was over then.
    over_at      INTEGER,
    -- pending, running (a request may have been sent), done
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    -- The first request to new-api that changes something.
    acted_at     INTEGER,
    finished_at  INTEGER,
    -- How it went, as JSON (breaker::act::Outcome).
    outcome      TEXT NOT NULL,
    -- Which outcome people were told last, so that the same is not told again.
    told         TEXT,
    restore      TEXT NOT NULL,
    restore_at   INTEGER,
    limit_name   TEXT,
    before_status INTEGER,
    after_status  INTEGER,
    -- new-api's own time of the change, as it was read back.
    status_time  INTEGER,
    -- We hold the channel disabled: open, else why not any more; NULL if we never did.
    hold         TEXT,
    held_until   INTEGER,
    -- Whether it really went quiet: watching, quiet, busy, unknown; NULL if nothing is to be seen.
    watch        TEXT
);

CREATE INDEX acts_due ON acts (next_at) WHERE state <> 'done';
CREATE INDEX acts_held ON acts (channel_id) WHERE hold = 'open';
CREATE INDEX acts_watched ON acts (id) WHERE watch = 'watching';
CREATE INDEX acts_of_incident ON acts (incident) WHERE incident IS NOT NULL;
CREATE INDEX acts_of_parent ON acts (parent) WHERE parent IS NOT NULL;
CREATE INDEX acts_acted ON acts (acted_at) WHERE acted_at IS NOT NULL;
CREATE INDEX acts_finished ON acts (finished_at);

-- What was done, step by step; lines are only ever added.
CREATE TABLE ledger (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    act    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    step   TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- With the step `result`, the label value of the outcome.
    result TEXT
);

CREATE INDEX ledger_of_act ON ledger (act);
CREATE INDEX ledger_results ON ledger (result) WHERE result IS NOT NULL;
