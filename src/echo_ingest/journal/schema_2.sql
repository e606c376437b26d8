-- Version 2. Reasons have a code, and where they are about a field, its path. Both are NULL in rows
-- of version 1, and the code where another system gave the reason in words of its own.

ALTER TABLE dead_letter ADD COLUMN code TEXT;
ALTER TABLE dead_letter ADD COLUMN field TEXT;
ALTER TABLE parked ADD COLUMN code TEXT;
ALTER TABLE parked ADD COLUMN field TEXT;

PRAGMA user_version = 2;
