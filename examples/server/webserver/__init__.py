"""A small web server on SQLite that can let go of one database while it keeps serving.

Standard library only, so that a team can copy the folder: ``cli`` is the command line, ``control`` finds, starts and
stops the running process, ``state`` is what survives it, ``http`` answers requests, ``service`` is one database with
its pages, its cache (``recent``) and its queue of inserts (``inbox``), ``database`` its connections.
"""

DATABASES = ("ipm", "emoji")
