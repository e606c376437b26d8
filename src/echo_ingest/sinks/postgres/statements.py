"""The SQL with which a batch is written."""

from echo_ingest.columns import PLACE
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

CAME_LATER = """
    excluded.{0}_offset > coalesce(known.{0}_offset, 0)
    OR excluded.{1} BETWEEN coalesce(known.{1}, '-infinity') + interval '1 hour'
        AND now() + interval '1 day'
"""
"""True of what came later by the journal: a clock that leapt ahead and came back hides nothing.
Also true of what came much later by the clock: a service can have begun a new journal. A repeat is
neither."""
CAME_FIRST = """
    excluded.first_heard_at < known.first_heard_at AND (
        excluded.first_offset < coalesce(known.first_offset, 9223372036854775807)
        OR known.first_heard_at > now() + interval '1 day'
    )
"""
"""True of what came earlier by the journal as well as by the clock, which may fall behind."""
HEARD = {
    ("first_heard_at", "first_offset"): CAME_FIRST,
    ("last_heard_at", "last_offset"): CAME_LATER.format("last", "last_heard_at"),
    ("placed_at", "placed_offset", *PLACE): "excluded.placed_at IS NOT NULL AND ("
    + CAME_LATER.format("placed", "placed_at")
    + ")",
}
"""What is known of a node → when a batch knows it better."""
NODE_TYPES = (
    "text",
    *("timestamptz", "bigint") * 3,
    *("float8",) * len(PLACE),
)
HEAR = f"""
    INSERT INTO echo.nodes AS known ({", ".join(NODE_COLUMNS)})
    SELECT * FROM unnest({
    ", ".join(f"${number}::{each}[]" for number, each in enumerate(NODE_TYPES, 1))
})
    ON CONFLICT (node) DO UPDATE SET {
    ", ".join(
        f"{name} = CASE WHEN {better} THEN excluded.{name} ELSE known.{name} END"
        for names, better in HEARD.items()
        for name in names
    )
}
    WHERE {" OR ".join(f"({better})" for better in HEARD.values())}
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
