"""The SQL with which a batch is written."""

from echo_ingest.sinks.postgres.rows import COLUMNS, NODE_COLUMNS

SESSION = """
SET synchronous_commit = on;
SET TimeZone = 'UTC';
SET statement_timeout = '{seconds:g}s';
SET lock_timeout = '{seconds:g}s';
SET idle_in_transaction_session_timeout = '{seconds:g}s';
"""

SAVE = "SAVEPOINT part"
UNDO = "ROLLBACK TO SAVEPOINT part"

# ruff: noqa: S608 - the names are ours
STAGED = "staged"
STAGE = {
    table: f"CREATE TEMP TABLE {STAGED} ON COMMIT DROP AS"
    f" SELECT {', '.join(columns)} FROM echo.{table} WITH NO DATA"
    for table, columns in COLUMNS.items()
}
UNSTAGE = {
    table: f"INSERT INTO echo.{table} ({', '.join(columns)})"
    f" SELECT {', '.join(columns)} FROM pg_temp.{STAGED}"
    # The columns are named, so that a row that breaks another constraint is an error.
    " ON CONFLICT (observed_at, key) DO NOTHING;"
    f" DROP TABLE pg_temp.{STAGED}"
    for table, columns in COLUMNS.items()
}

PLACED = NODE_COLUMNS[3:]
# The known place stays unless the reported one is newer.
HEAR = f"""
    INSERT INTO echo.nodes AS known ({", ".join(NODE_COLUMNS)})
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[],
        $5::float8[], $6::float8[], $7::float8[], $8::float8[])
    ON CONFLICT (node) DO UPDATE SET
        first_heard_at = least(known.first_heard_at, excluded.first_heard_at),
        last_heard_at = greatest(known.last_heard_at, excluded.last_heard_at),
        ({", ".join(PLACED)}) = (
            SELECT {", ".join(PLACED)}
            FROM (VALUES
                (1, {", ".join(f"known.{name}" for name in PLACED)}),
                (2, {", ".join(f"excluded.{name}" for name in PLACED)})
            ) AS places (turn, {", ".join(PLACED)})
            ORDER BY placed_at DESC NULLS LAST, turn
            LIMIT 1
        )
    WHERE excluded.first_heard_at < known.first_heard_at
        OR excluded.last_heard_at > known.last_heard_at
        OR excluded.placed_at > coalesce(known.placed_at, '-infinity')
"""

MAKE_MONTHS = "SELECT echo.make_months($1)"

LACKING = """
    SELECT privilege || ' ON ' || thing
    FROM (
        SELECT 'INSERT', name, has_table_privilege('echo.' || name, 'INSERT')
        FROM unnest($1::text[]) AS name
        UNION ALL
        SELECT 'SELECT', name, has_table_privilege('echo.' || name, 'SELECT')
        FROM unnest($1::text[]) AS name
        UNION ALL
        SELECT 'UPDATE', 'nodes', has_table_privilege('echo.nodes', 'UPDATE')
        UNION ALL
        SELECT 'EXECUTE', 'FUNCTION make_months',
            has_function_privilege('echo.make_months(date[])', 'EXECUTE')
        UNION ALL
        SELECT 'TEMPORARY', 'DATABASE', has_database_privilege(current_database(), 'TEMPORARY')
    ) AS needed (privilege, thing, is_granted)
    WHERE NOT is_granted
    ORDER BY 1
"""
"""The privileges that the role needs and lacks; $1 are the tables."""
MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
