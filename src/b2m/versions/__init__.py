"""Versions: commits that name them, packs that hold them, and ``db.toml``, which says which file is live."""
