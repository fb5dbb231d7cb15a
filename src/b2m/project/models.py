"""The shapes of inventory.yaml, a playbook and a role, as pydantic models.

Tasks stay plain mappings here: which modules there are, and what each takes, is known to whoever loads the project.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from b2m.project.schedule import ScheduleFile
from b2m.project.specs import ArgumentSpec
from b2m.project.strict import Name, Names, RawTasks, SecretName, Secrets, Strict, VarName, Vars, broken_rule
from b2m.project.units import Duration

STATES = ("up_to_date", "locked", "ready_to_upload", "outdated_db")
"""The states that a playbook has a scenario for."""

LOCAL = "local"
"""The host that always exists: this machine."""

ALL = "all"
"""In place of a name on a command line: every database, or every host that has the database."""


def _file_pattern(value: str) -> str:
    if "/" in value or value.startswith(".") or not value:
        raise broken_rule("a file name is expected, without a folder")
    if value.count("{version}") > 1 or re.search(r"[{}]", value.replace("{version}", "")):
        raise broken_rule("only {version} may stand in braces, once")
    return value


def _url(scheme: str) -> AfterValidator:
    """What checks an address of a bucket: ``<scheme>://bucket/prefix``."""
    pattern = re.compile(rf"{scheme}://[A-Za-z0-9][A-Za-z0-9.-]{{1,62}}(?:/[A-Za-z0-9_][A-Za-z0-9_.@+=~-]*)*/?")

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise broken_rule(f"{value!r} is no bucket's address: write {scheme}://bucket, or {scheme}://bucket/prefix")
        return value.rstrip("/")

    return AfterValidator(check)


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s@]+/?", value):
        raise broken_rule("write it with http:// or https:// before it, and no folder behind it")
    return _checked_address(value)


def _realm(value: str) -> str:
    if value == "production":
        return value
    if not re.fullmatch(r"https?://[^/?#\s@]+(/[^?#\s]*)?", value):
        raise broken_rule("write production, or an address with http:// or https:// before it")
    return _checked_address(value)


def _checked_address(value: str) -> str:
    """Refuse what would end in a ValueError where the address is used."""
    try:
        parts = urlsplit(value)
    except ValueError:
        raise broken_rule("an address of IPv6 stands in brackets, as http://[::1]:9000") from None
    if not parts.hostname:
        raise broken_rule("it names no machine")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise broken_rule("the port must be a number from 1 to 65535")
    return value.rstrip("/")


Endpoint: TypeAlias = Annotated[str, AfterValidator(_endpoint)]
Realm: TypeAlias = Annotated[str, AfterValidator(_realm)]
S3Url: TypeAlias = Annotated[str, _url("s3")]
B2Url: TypeAlias = Annotated[str, _url("b2")]
FilePattern: TypeAlias = Annotated[str, AfterValidator(_file_pattern)]


class MergeRule(Strict):
    """What happens to a row that both sides changed."""

    on_conflict: Literal["fail", "ours", "theirs", "newest"] = Field(default="fail", description="fail, or who wins")
    by: str | None = Field(default=None, description="for newest: the column that tells which row is newer")

    @model_validator(mode="after")
    def _newest_has_a_column(self) -> MergeRule:
        if self.on_conflict == "newest" and not self.by:
            raise broken_rule("on_conflict: newest needs by, the column that tells which row is newer")
        if self.on_conflict != "newest" and self.by:
            raise broken_rule("by is only read with on_conflict: newest")
        return self


class Merge(Strict):
    """The rule of every table."""

    default: MergeRule = Field(default_factory=MergeRule, description="for tables that are not named")
    tables: dict[str, MergeRule] = Field(default_factory=dict, description="table name -> its rule")

    def rule(self, table: str) -> MergeRule:
        """The rule of one table."""
        return self.tables.get(table, self.default)


class MaxDeletes(Strict):
    """How many rows of one table may vanish in one run; beyond either limit the run is refused."""

    rows: int = Field(default=1000, ge=0, description="rows")
    share: float = Field(default=0.10, ge=0, le=1, description="share of the table's rows, 0.1 is a tenth")


class Policy(Strict):
    """What a run may do to the data and to the server."""

    naming: Literal["versioned", "stable"] = Field(default="versioned", description="ipm-db-v6.db, or always ipm.db")
    rename: Literal["now", "next_swap"] = Field(default="now", description="when a mere upload renames the live file")
    max_downtime: Duration = Field(default=5.0, description="the longest that b2m's own work may hold the server")
    merge: Merge = Field(default_factory=Merge, description="rows that both sides changed")
    max_deletes: MaxDeletes = Field(default_factory=MaxDeletes, description="how many rows may vanish")
    lease_ttl: Duration = Field(default=60.0, gt=0, description="a lease not renewed for so long may be taken over")


class Scenarios(Strict):
    """One list of tasks a state; an empty list says that nothing is to be done."""

    up_to_date: RawTasks = Field(description="nothing to do: bucket and live are the same")
    locked: RawTasks = Field(description="somebody else holds the lease")
    ready_to_upload: RawTasks = Field(description="live has rows that the newest version lacks")
    outdated_db: RawTasks = Field(description="the bucket has a newer version than live")


class PlaybookFile(Strict):
    """playbooks/<db>.yaml: what happens to one database in each state."""

    db: Name = Field(description="the database, as inventory.yaml names it")
    hosts: Names = Field(description="hosts or groups that it may run on; local always may")
    about: str | None = Field(default=None, description="a sentence for people")
    vars: Vars = Field(default_factory=dict, description="values for expressions")
    policy: Policy = Field(default_factory=Policy, description="limits and merge rules")
    scenarios: Scenarios = Field(description="the tasks of each state")
    on_refused: RawTasks = Field(default=(), description="tasks after a refusal; they change nothing")
    on_failed: RawTasks = Field(default=(), description="tasks after a failure was undone; they change nothing")
    on_success: RawTasks = Field(default=(), description="tasks after a sync that went well; they change nothing")
    schedule: ScheduleFile | None = Field(default=None, description="when it runs by itself: b2m schedule installs it")


class RoleFile(Strict):
    """roles/<name>/role.yaml: tasks that several playbooks share."""

    about: str | None = Field(default=None, description="a sentence for people")
    argument_specs: dict[VarName, ArgumentSpec] | None = Field(
        default=None, description="what it takes: with these, whoever includes the role may give nothing else"
    )
    defaults: Vars = Field(default_factory=dict, description="values that inventory and playbook may override")
    tasks: RawTasks = Field(description="what the role does")


class FolderBucket(Strict):
    """A bucket that is a folder, here or on a mounted disk."""

    type: Literal["folder"] = Field(description="folder")
    path: str = Field(min_length=1, description="the folder, relative to the project")


class S3Bucket(Strict):
    """A bucket of a store that speaks S3: AWS, MinIO, Cloudflare R2, Backblaze B2's S3 endpoint, and others."""

    type: Literal["s3"] = Field(description="s3")
    url: S3Url = Field(description="s3://bucket, or s3://bucket/prefix")
    endpoint: Endpoint | None = Field(default=None, description="where the store answers; without it, AWS")
    region: str = Field(default="us-east-1", min_length=1, description="the store's region")
    path_style: bool = Field(default=True, description="whether the bucket's name stands in the path, as MinIO needs")
    key_id: SecretName = Field(description="the secret that holds the access key's id, as $B2M_KEY_ID")
    key: SecretName = Field(description="the secret that holds the access key, as $B2M_KEY")


class LockBucket(Strict):
    """A tiny bucket of its own, whose revision makes leases and versions atomic; its key stays on the ops box."""

    url: B2Url = Field(description="b2://bucket")
    key_id: SecretName = Field(description="the secret that holds the id of a key with the right writeBuckets")
    key: SecretName = Field(description="the secret that holds that key")


class B2Bucket(Strict):
    """A bucket of Backblaze B2, by its native API."""

    type: Literal["b2"] = Field(description="b2")
    url: B2Url = Field(description="b2://bucket, or b2://bucket/prefix")
    realm: Realm = Field(default="production", min_length=1, description="production, or the address of another one")
    key_id: SecretName = Field(description="the secret that holds the application key's id, as $B2_KEY_ID")
    key: SecretName = Field(description="the secret that holds the application key, as $B2_KEY")
    locks: LockBucket | None = Field(default=None, description="makes publishing atomic; without it, flags are used")


def _bucket_type(value: object) -> str:
    """Which kind of bucket an entry is; what is no kind is told as a wrong folder."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if kind in ("s3", "b2") else "folder"


AnyBucket: TypeAlias = Annotated[
    Annotated[FolderBucket, Tag("folder")] | Annotated[S3Bucket, Tag("s3")] | Annotated[B2Bucket, Tag("b2")],
    Discriminator(_bucket_type),
]


class DatabaseFile(Strict):
    """One database of the project."""

    file: FilePattern = Field(description="the live file's name, with {version} unless policy.naming is stable")
    key: str | None = Field(default=None, min_length=1, description="its key in db.toml; without it <name>db")
    direction: Literal["both", "bucket_to_host"] = Field(default="both", description="whether hosts may publish it")
    bucket: Name = Field(description="the bucket that keeps its versions")
    plain: bool = Field(default=False, description="also keep each version as a plain file, <db>/files/<file>")
    folder: str = Field(default="dbs", min_length=1, description="where the host local has it, relative to the project")
    messages: Secrets | None = Field(default=None, description="who also gets every message that is sent about it")


class HealthFile(Strict):
    """How to tell that the server works again."""

    url: str | None = Field(default=None, min_length=1, description="answers 2xx when it does")
    command: str | None = Field(default=None, min_length=1, description="exits 0 when it does")

    @model_validator(mode="after")
    def _one_probe(self) -> HealthFile:
        if (self.url is None) == (self.command is None):
            raise broken_rule("needs either url or command")
        return self


class ServiceFile(Strict):
    """The server that opens a database, and the shell commands, run in the host's workdir, that make it let go."""

    stop: str | None = Field(default=None, min_length=1, description="ends the server")
    start: str | None = Field(default=None, min_length=1, description="starts it again")
    disconnect: str | None = Field(default=None, min_length=1, description="makes it close the database and serve on")
    connect: str | None = Field(default=None, min_length=1, description="makes it open the database again")
    health: HealthFile | None = Field(default=None, description="how to tell that it works")
    start_timeout: Duration = Field(default=30.0, gt=0, description="for start or connect, and until health answers")
    stop_timeout: Duration = Field(default=30.0, gt=0, description="for stop or disconnect")

    @model_validator(mode="after")
    def _one_pair(self) -> ServiceFile:
        for one, other in (("stop", "start"), ("disconnect", "connect")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                there, missing = (one, other) if getattr(self, one) else (other, one)
                raise broken_rule(f"{there} needs {missing} beside it")
        if (self.stop is None) == (self.disconnect is None):
            raise broken_rule("a service has either stop and start, or disconnect and connect")
        return self


class HostDatabaseFile(Strict):
    """A database on one host, where it differs from the database's own entry."""

    service: Name | None = Field(default=None, description="the service that opens it; null if none does")
    folder: str | None = Field(default=None, min_length=1, description="its folder, if not the host's")
    direction: Literal["both", "bucket_to_host"] | None = Field(default=None, description="may this host publish it?")


class HostFile(Strict):
    """One machine that has databases."""

    connection: Literal["local", "ssh"] = Field(default="local", description="how it is reached: it is here, or by SSH")
    address: str | None = Field(
        default=None, min_length=1, description="user@machine:port, or an alias of ~/.ssh/config; without it, its name"
    )
    bootstrap: Literal["manual", "auto"] = Field(
        default="manual", description="auto: b2m puts itself there when it is missing or too old"
    )
    folder: str = Field(
        min_length=1, description="where its live databases lie, relative to the project; by SSH, to the login's home"
    )
    workdir: str | None = Field(
        default=None, min_length=1, description="where commands run; without it the project, by SSH the login's home"
    )
    demo: bool = Field(default=False, description="made up on first use, with data and a server to try b2m on")
    vars: Vars = Field(default_factory=dict, description="values for expressions")
    services: dict[Name, ServiceFile] = Field(default_factory=dict, description="the servers that open databases")
    databases: dict[Name, HostDatabaseFile] = Field(description="which databases it has")

    @model_validator(mode="after")
    def _address_of_another(self) -> HostFile:
        for key in ("address", "bootstrap"):
            if self.connection == "local" and key in self.model_fields_set:
                raise broken_rule(f"{key} is only read with connection: ssh")
        if self.connection == "ssh" and self.demo:
            raise broken_rule("a demo host is made on this machine: connection must be local")
        return self


class GroupFile(Strict):
    """Hosts that belong together."""

    vars: Vars = Field(default_factory=dict, description="values for expressions")
    hosts: dict[Name, HostFile] = Field(description="the hosts by name")


class InventoryFile(Strict):
    """inventory.yaml: the buckets, databases and hosts of a project."""

    buckets: dict[Name, AnyBucket] = Field(description="where versions are kept")
    databases: dict[Name, DatabaseFile] = Field(description="the databases by their short names")
    groups: dict[Name, GroupFile] = Field(default_factory=dict, description="the hosts, in groups")
    messages: dict[Name, Secrets] = Field(
        default_factory=dict, description="who is told: the secrets that hold a Discord webhook or an Apprise address"
    )
