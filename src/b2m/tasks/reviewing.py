"""The task for whoever reviews a change of a project."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m.tasks.frame import FLAGS, emit, help_of, reported, tell


@task(
    **FLAGS,
    help=help_of("project", "json", base="what it is compared with, from where HEAD parted; origin/main, else main"),
)
def review(c: Context, base: str = "", project: str = "", json: bool = False) -> None:
    """Say what a change does in effect, as Markdown; exit 8 with warnings, 3 if the project is not valid after it."""
    with reported(c, json):
        from b2m.review import markdown
        from b2m.review import review as reviewed

        found = reviewed(project or None, base or None)
        if json:
            for one in markdown.json_lines(found):
                emit(one)
        else:
            tell(*markdown.markdown(found))
        if found.exit_code:
            raise Exit(None, found.exit_code)


TASKS = (review,)
