"""What can still be read of a file whose shape is wrong, so that all its other mistakes are told in the same go."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from b2m.project.wording import places
from b2m.project.yaml import YamlPath

Model = TypeVar("Model", bound=BaseModel)

_ROUNDS = 4  # what is left out may be missed, and is then filled in


def salvage(model: type[Model], data: Any) -> tuple[Model | None, frozenset[str]]:
    """The model without what is wrong, None if nothing is left of it; and the top-level keys that lost something."""
    lost: set[str] = set()
    kept = deepcopy(data)
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(kept), frozenset(lost)
        except ValidationError as error:
            wrong = places(error, kept)
            if not all(_mend(kept, path, missing) for path, missing in _deepest_first(wrong)):
                break
            lost |= {str(path[0]) for path, _ in wrong}
    return None, frozenset(lost)


def _deepest_first(wrong: Iterable[tuple[YamlPath, bool]]) -> list[tuple[YamlPath, bool]]:
    return sorted(wrong, key=lambda found: len(found[0]), reverse=True)


def _mend(data: Any, path: YamlPath, missing: bool) -> bool:
    """Leave out the value at ``path``, or put an empty list where one is missing; False if that cannot help."""
    # An item of a list goes with its list: the positions of the others are found by their numbers.
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return False
    parent = data
    for step in path[:-1]:
        try:
            parent = parent[step]
        except (LookupError, TypeError):
            return True  # it went with something around it
    if missing:
        if path[0] not in ("scenarios", "hosts", "tasks"):
            return False
        parent[path[-1]] = [] if len(path) == 2 or path[0] != "scenarios" else {}
    else:
        parent.pop(path[-1], None)
    return True
