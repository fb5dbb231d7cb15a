"""Lets ``python -m b2m`` be the command line."""

from b2m.tasks.program import main

if __name__ == "__main__":
    main()
