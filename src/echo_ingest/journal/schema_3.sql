-- Version 3. The key of a message with an id does not depend on its time any more (record.message_key),
-- and the journal knows the order of the days on which it worked (receipt_days.py).

ALTER TABLE ledger ADD COLUMN keys_with_time INTEGER NOT NULL DEFAULT 0; -- up to this offset
UPDATE ledger SET keys_with_time = (SELECT coalesce(max(offset), 0) FROM record);

CREATE TABLE receipt_day (
    id     INTEGER PRIMARY KEY,        -- in the order in which the days were seen
    day    INTEGER NOT NULL,           -- by the clock of the machine, UTC: days since 1970
    offset INTEGER NOT NULL,           -- the newest record's, before the day was seen
    leapt  INTEGER NOT NULL DEFAULT 0  -- 1: the clock leapt into this day, out of it or within it
) STRICT;

PRAGMA user_version = 3;
