"""b2m keeps SQLite databases safe and in step between a production server, a team and a bucket."""

__version__ = "0.1.0"
