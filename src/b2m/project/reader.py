"""Tasks and playbooks built from plain data: roles put in place, arguments checked as far as they are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from b2m.project import templates
from b2m.project.arguments import Arguments
from b2m.project.facts import is_built_in
from b2m.project.models import PlaybookFile, RoleFile
from b2m.project.problems import Position, Problems, suggest
from b2m.project.scope import Layer, Source
from b2m.project.specs import ArgumentSpec
from b2m.project.strict import Strict, Vars
from b2m.project.tasks import HOLD, ROLE, Limits, Modules, Playbook, Task
from b2m.project.units import Duration
from b2m.project.wording import describe, validate
from b2m.project.yaml import Document

_UNLIMITED = {
    HOLD: "a hold: policy.max_downtime limits it",
    ROLE: "a role: give it to the role's tasks",
}


def _condition(value: Any) -> Any:
    # "when: true" is YAML's boolean and an expression too.
    return str(value).lower() if isinstance(value, bool) else value


class Frame(Strict):
    """The keys of a task besides its module."""

    name: str | None = Field(default=None, description="what it does, for people")
    when: Annotated[str | None, BeforeValidator(_condition)] = Field(default=None, description="only if this holds")
    timeout: Duration | None = Field(default=None, gt=0, description="the longest that it may take")
    retries: int = Field(default=0, ge=0, le=10, description="how often it is tried again after a failure")
    vars: Vars = Field(default_factory=dict, description="of a role: values for its expressions")
    block: list[Any] = Field(default_factory=list, description="of a hold: the tasks inside it")


@dataclass(frozen=True)
class RoleSource:
    """A role as read, not yet put anywhere."""

    name: str
    file: RoleFile
    document: Document

    @property
    def specs(self) -> Mapping[str, ArgumentSpec]:
        """Its declared arguments; none if it declares nothing and so takes whatever it is given."""
        return self.file.argument_specs or {}

    def defaults(self) -> tuple[Layer, ...]:
        """The lowest levels of variables: the defaults of its arguments, and its other ones."""
        given = {name: spec.default for name, spec in self.specs.items() if spec.has_default}
        name = f"default of role {self.name}"
        return (
            Layer(name, given, Source(self.document, ("argument_specs",)), ("default",)),
            Layer(name, self.file.defaults, Source(self.document, ("defaults",))),
        )


@dataclass(frozen=True)
class Place:
    """Where tasks are put: the roles around them, the variables that those bring, and the arguments that they need."""

    roles: tuple[str, ...] = ()
    defaults: tuple[Layer, ...] = ()
    vars: tuple[Layer, ...] = ()
    needs: frozenset[str] = frozenset()

    def within(self, role: RoleSource, given: Vars, source: Source) -> Place:
        """The place inside a role that is given ``vars`` at ``source``."""
        own = Layer(f"var of role {role.name}", given, source)
        needs = self.needs | {name for name, spec in role.specs.items() if spec.required}
        return Place((*self.roles, role.name), (*self.defaults, *role.defaults()), (*self.vars, own), needs)


class TaskReader:
    """Builds tasks from lists of plain mappings, with roles in place; what is wrong goes to ``problems``."""

    def __init__(self, modules: Modules, roles: Mapping[str, RoleSource | None], problems: Problems) -> None:
        """``roles`` maps a name to None if the role is there but cannot be read: that is said once, elsewhere."""
        self.modules = modules
        self.roles = roles
        self.problems = problems

    def read(self, raw: Iterable[Any], source: Source, place: Place) -> tuple[Task, ...]:
        """The tasks of the list at ``source``; one that cannot be understood is left out."""
        tasks = (self._task(entry, source.below(index), place) for index, entry in enumerate(raw))
        return tuple(task for task in tasks if task is not None)

    def read_role(self, role: RoleSource) -> tuple[Task, ...]:
        """Read a role on its own, so that one that no playbook uses is not left unread."""
        document = role.document
        for name, spec in role.specs.items():
            at = document.key_at(("argument_specs", name))
            if is_built_in(name):
                self._add(at, f"{name} is a built-in name: choose another")
            if name in role.file.defaults and (spec.required or spec.has_default):
                said = "is required" if spec.required else "has a default"
                self._add(document.key_at(("defaults", name)), f"{name} {said} under argument_specs: say it once")
        source = Source(document, ("tasks",))
        return self.read(role.file.tasks, source, Place().within(role, {}, source))

    def _task(self, raw: Any, source: Source, place: Place) -> Task | None:
        if not isinstance(raw, Mapping):
            self._add(source.at(), f"expected a task, that is a mapping, not {describe(raw)}")
            return None
        key = self._module_of(raw, source)
        around = {name: value for name, value in raw.items() if name in Frame.model_fields}
        frame = validate(Frame, around, source.document, self.problems, source.path) or Frame()
        if templates.is_template(frame.name):
            self._add(source.at("name"), "a name is printed as it is: no template can stand here")
        if key is None:
            return None
        self._check_frame(raw, key, source)
        if key == ROLE:
            return self._role(raw[ROLE], frame, source, place)
        args = {} if raw[key] is None else raw[key]
        later = [path for path, leaf in templates.leaves(args) if templates.is_template(leaf)]
        model = self.modules[key]
        validate(model, args, source.document, self.problems, (*source.path, key), later=later)
        return Task(
            name=frame.name or key,
            module=key,
            args=args if isinstance(args, Mapping) else {},
            when=frame.when,
            block=self.read(frame.block, source.below("block"), place),
            model=model,
            source=source,
            limits=Limits(frame.timeout, frame.retries),
            defaults=place.defaults,
            vars=place.vars,
            needs=place.needs,
        )

    def _role(self, name: Any, frame: Frame, source: Source, place: Place) -> Task | None:
        at = source.at(ROLE)
        if not isinstance(name, str):
            self._add(at, f"role: expected the name of a role, not {describe(name)}")
            return None
        if name not in self.roles:
            self._add(at, f"unknown role {name}{suggest(name, self.roles, label='roles/ has')}")
            return None
        if name in place.roles:
            self._add(at, f"role {name} includes itself: {' -> '.join((*place.roles, name))}")
            return None
        role = self.roles[name]
        if role is None:
            return None
        inside = place.within(role, frame.vars, source.below("vars"))
        own = (*role.defaults(), inside.vars[-1])
        for given in frame.vars if role.file.argument_specs is not None else ():
            if given not in role.specs:
                at = source.document.key_at((*source.path, "vars", given))
                self._add(at, f"role {name} has no argument {given}{suggest(given, role.specs, label='it takes')}")
        return Task(
            name=frame.name or f"role {name}",
            module=ROLE,
            args={ROLE: name},
            when=frame.when,
            block=self.read(role.file.tasks, Source(role.document, ("tasks",)), inside),
            model=None,
            source=source,
            defaults=place.defaults,
            vars=place.vars,
            needs=place.needs,
            arguments=Arguments(name, role.specs, source.below(ROLE), inside.defaults, inside.vars, own),
        )

    def _module_of(self, raw: Mapping[str, Any], source: Source) -> str | None:
        known = {*self.modules, ROLE}
        found = [key for key in raw if key in known]
        unknown = [key for key in raw if key not in known and key not in Frame.model_fields]
        for key in unknown:
            what, choices = ("unknown key", set(Frame.model_fields)) if found else ("unknown module", known)
            self._add(source.document.key_at((*source.path, key)), f"{what} {key}{suggest(key, choices)}")
        if len(found) > 1:
            at = source.document.key_at((*source.path, found[1]))
            self._add(at, f"a task does one thing, this one has {' and '.join(found)}")
        elif not found and not unknown:
            self._add(source.at(), f"the task names no module; known here: {', '.join(sorted(known))}")
        return found[0] if found else None

    def _check_frame(self, raw: Mapping[str, Any], key: str, source: Source) -> None:
        for name, owner in (("block", HOLD), ("vars", ROLE)):
            if name in raw and key != owner:
                self._add(source.document.key_at((*source.path, name)), f"{name} belongs to a {owner}, not to {key}")
        for name in ("timeout", "retries"):
            if name in raw and key in _UNLIMITED:
                self._add(source.document.key_at((*source.path, name)), f"{name} cannot stand on {_UNLIMITED[key]}")
        if "retries" in raw and key not in _UNLIMITED and not getattr(self.modules[key], "repeatable", False):
            at = source.document.key_at((*source.path, "retries"))
            self._add(at, f"retries cannot stand on {key}: it must not be done twice")
        if key == HOLD and raw.get("block", []) == []:
            self._add(source.document.key_at((*source.path, HOLD)), "a hold needs a block with at least one task")

    def _add(self, at: Position, what: str) -> None:
        self.problems.add(at, what)


def read_playbook(
    file: PlaybookFile, document: Document, reader: TaskReader, lost: frozenset[str] = frozenset()
) -> Playbook:
    """A playbook with its tasks; ``lost`` are the keys of which something was wrong and left out."""

    def tasks(raw: Iterable[Any], *path: str) -> tuple[Task, ...]:
        return reader.read(raw, Source(document, path), Place())

    states = type(file.scenarios).model_fields
    return Playbook(
        db=file.db,
        file=document.file,
        hosts=file.hosts,
        about=file.about,
        policy=file.policy,
        layer=Layer("playbook", file.vars, Source(document, ("vars",))),
        scenarios={state: tasks(getattr(file.scenarios, state), "scenarios", state) for state in states},
        on_refused=tasks(file.on_refused, "on_refused"),
        on_failed=tasks(file.on_failed, "on_failed"),
        on_success=tasks(file.on_success, "on_success"),
        schedule=file.schedule,
        document=document,
        lost=lost,
    )
