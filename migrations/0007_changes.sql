-- A journal of what became of label sets since they were written to series in full, so that a commit need not write them so.

-- All that one commit changed, packed by postcard (src/usage/difference.rs). seq begins at 1 whenever the journal does.
CREATE TABLE series_changes (
    seq   INTEGER PRIMARY KEY,
    -- Of the data up to this row. Before the data, which need not be read to know it.
    bytes INTEGER NOT NULL,
    data  BLOB NOT NULL
);
