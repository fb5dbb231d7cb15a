"""When a database is brought in step without anybody asking, as its playbook says."""

from __future__ import annotations

import re
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from b2m.project.strict import Name, SecretName, Strict, broken_rule
from b2m.project.units import Duration

MINUTES_A_DAY = 24 * 60


TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


def _time(value: str) -> str:
    if not re.fullmatch(TIME, value):
        raise broken_rule("expected a time of day, as 18:00")
    return value


def _zone(value: str) -> str:
    if zone_is_known(value):
        return value
    from zoneinfo import available_timezones

    known = available_timezones()
    # A machine without any such data cannot tell; the one that installs the schedule is asked again.
    if known:
        close = get_close_matches(value, known, n=1)
        raise broken_rule(f"there is no time zone {value}{f', did you mean {close[0]}?' if close else ''}")
    return value


Time: TypeAlias = Annotated[str, AfterValidator(_time), WithJsonSchema({"type": "string", "pattern": TIME})]
Zone: TypeAlias = Annotated[str, AfterValidator(_zone)]


class ScheduleFile(Strict):
    """When one machine syncs the database by itself."""

    at: Time | None = Field(default=None, description="once a day at this time, as 18:00")
    every: Duration | None = Field(default=None, description="or so often, counted from midnight: 15m, 6h")
    tz: Zone = Field(default="UTC", description="the time zone that is meant, as Europe/Berlin")
    host: Name = Field(description="the host that is synced")
    wait: Duration = Field(default=0.0, description="how long to wait for somebody who works on it")
    jitter: Duration = Field(default=0.0, lt=3600, description="begin up to so much later, so that not all do at once")
    ping: SecretName | None = Field(
        default=None, description="the secret that holds an address to GET after each success, as $PING_IPM"
    )
    pull: Literal["ff_only"] | None = Field(default=None, description="git pull --ff-only of the project before")

    @model_validator(mode="after")
    def _one_rhythm(self) -> ScheduleFile:
        if (self.at is None) == (self.every is None):
            raise broken_rule("needs either at or every")
        if self.every is not None and not self._divides():
            raise broken_rule("every must be whole minutes that divide an hour, or whole hours that divide a day")
        return self

    def _divides(self) -> bool:
        minutes, rest = divmod(timedelta(seconds=self.every or 0), timedelta(minutes=1))
        if rest or not minutes:
            return False
        return 60 % minutes == 0 if minutes < 60 else minutes % 60 == 0 and MINUTES_A_DAY % minutes == 0

    @property
    def times(self) -> tuple[tuple[int, int], ...]:
        """Every hour and minute of a day at which it begins, in its time zone."""
        if self.at is not None:
            hour, _, minute = self.at.partition(":")
            return ((int(hour), int(minute)),)
        step = round((self.every or 0) / 60)
        return tuple(divmod(minute, 60) for minute in range(0, MINUTES_A_DAY, step))

    @property
    def words(self) -> str:
        """When it begins, for people: ``18:00 Europe/Berlin`` or ``every 6h``."""
        if self.at is not None:
            return f"{self.at} {self.tz}"
        minutes = round((self.every or 0) / 60)
        length = f"{minutes}m" if minutes < 60 else f"{minutes // 60}h"
        return f"every {length}" + (f", {self.tz}" if minutes > 15 else "")


def zone_is_known(name: str) -> bool:
    """Whether this machine has the rules of a time zone."""
    if name == "UTC":
        return True
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True
