"""The line itself: ingest (broker to journal), deliver (journal to sinks), receipts, retention."""
