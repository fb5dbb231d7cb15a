"""Row-level engine for SQLite files: look, copy, compare, merge, verify, swap. Knows no bucket and no playbook."""
