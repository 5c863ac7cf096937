-- What is urgent goes ahead of the rest while a target has no room for all of it.

-- 0 for what tells of a critical alert, of the circuit breaker or of the monitor's own trouble, and for what stands before it
-- in its group; 1 for the rest.
ALTER TABLE deliveries ADD COLUMN later INTEGER NOT NULL DEFAULT 1;

DROP INDEX deliveries_live;

CREATE INDEX deliveries_live ON deliveries (target, later, message, part) WHERE state IN ('pending', 'leased');
