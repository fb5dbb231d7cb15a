"""Where a database lives: what b2m does on the host that has the live file."""
