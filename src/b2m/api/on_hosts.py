"""Verbs that run where the database is: in this process, or in an agent on its host."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from b2m.project import Target

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


ON_HOSTS: dict[str, Callable[..., Any]] = {}
"""The verbs that work on a host's files, by name: what an agent does when it is asked to."""


def on_host(
    verb: Callable[Concatenate[Target, Parameters], Result],
) -> Callable[Concatenate[Target, Parameters], Result]:
    """Make a verb run where the database is: in this process, or in an agent on its host."""
    ON_HOSTS[verb.__name__] = verb
    signature = inspect.signature(verb)

    @wraps(verb)
    def act(target: Target, *given: Parameters.args, **options: Parameters.kwargs) -> Result:
        if not target.remote:
            return verb(target, *given, **options)
        from b2m import remote

        bound = dict(signature.bind(target, *given, **options).arguments)
        del bound["target"]
        done: Result = remote.call(verb.__name__, target, **bound)
        return done

    return cast("Callable[Concatenate[Target, Parameters], Result]", act)
