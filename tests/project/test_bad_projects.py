"""Every way to write a project wrong, and the exact lines that a person then reads.

A row changes one thing in the sample project. Lines are those of the changed file, unless they name another one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from b2m.errors import InvalidProject
from b2m.project import load_project
from b2m.project.rules import may_be_one_name
from tests.project.samples import FILES, INVENTORY, MODULES, PLAYBOOK, ROLE, load, write

Row = tuple[str, str, list[str]]

IN_INVENTORY: list[Row] = [
    (
        "    type: folder",
        "    typ: folder",
        ["3:5: buckets.main.type is missing", "3:5: unknown key typ, did you mean type?"],
    ),
    ("    type: folder", "    type: ftp", ['3:11: type: expected folder, s3 or b2, not the text "ftp"']),
    (
        "    type: folder",
        "    type: s3",
        [
            "3:5: buckets.main.key is missing",
            "3:5: buckets.main.key_id is missing",
            "3:5: buckets.main.url is missing",
            "4:5: unknown key path; known here: endpoint, key, key_id, path_style, region, type, url",
        ],
    ),
    (
        "    type: folder\n    path: bucket",
        "    type: s3\n    url: s3:/bucket\n    endpoint: minio:9000\n    key_id: abc\n    key: $B2M-KEY",
        [
            "4:10: url: 's3:/bucket' is no bucket's address: write s3://bucket, or s3://bucket/prefix",
            "5:15: endpoint: write it with http:// or https:// before it, and no folder behind it",
            "6:13: key_id: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment",
            "7:10: key: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment",
        ],
    ),
    *[
        (
            "    type: folder\n    path: bucket",
            f"    type: s3\n    url: s3://bucket\n    endpoint: {endpoint}\n    key_id: $ID\n    key: $KEY",
            [f"5:15: endpoint: {what}"],
        )
        for endpoint, what in (
            ("http://127.0.0.1:99999", "the port must be a number from 1 to 65535"),
            ("http://127.0.0.1:0", "the port must be a number from 1 to 65535"),
            ("https://minio:api", "the port must be a number from 1 to 65535"),
            ("http://:9000", "it names no machine"),
            ("http://[::1", "an address of IPv6 stands in brackets, as http://[::1]:9000"),
        )
    ],
    *[
        (
            "    type: folder\n    path: bucket",
            f"    type: b2\n    url: b2://bucket\n    realm: {realm}\n    key_id: $ID\n    key: $KEY",
            [f"5:12: realm: {what}"],
        )
        for realm, what in (
            ("prod", "write production, or an address with http:// or https:// before it"),
            ('""', "must not be empty"),
            ("api.example.org", "write production, or an address with http:// or https:// before it"),
            ("https://api.example.org:65536/b2", "the port must be a number from 1 to 65535"),
        )
    ],
    (
        "    type: folder\n    path: bucket",
        "    type: b2\n    url: b2://bucket\n    key_id: $ID\n    key: $KEY\n    locks:\n      url: b2://locks",
        ["8:7: buckets.main.locks.key is missing", "8:7: buckets.main.locks.key_id is missing"],
    ),
    ("    path: bucket", "    path: 5", ["4:11: path: expected text, not the number 5"]),
    ("    path: bucket\n", "", ["3:5: buckets.main.path is missing"]),
    ("    path: bucket", '    path: ""', ["4:11: path: must not be empty"]),
    ("    path: bucket", '    path: "{{ team }}"', ["4:11: no template can stand here: write the value"]),
    (
        "buckets:",
        "messages: {ops: https://discord.com/api/webhooks/1/secret}\nbuckets:",
        ["1:17: ops: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment"],
    ),
    (
        "buckets:",
        "messages: {ops: [$ONE, two]}\nbuckets:",
        ["1:24: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment"],
    ),
    ("buckets:", "messages: {ops: []}\nbuckets:", ["1:17: ops: must not be empty"]),
    ("buckets:", "messages: {ops: 5}\nbuckets:", ["1:17: ops: expected text, not the number 5"]),
    ("buckets:", "messages: {ops: }\nbuckets:", ["1:17: ops: expected text, not nothing"]),
    ("buckets:", "messages: {the ops: $OPS}\nbuckets:", ["1:12: 'the ops' is no name: letters, digits, _ and - only"]),
    (
        "buckets:",
        'messages: {ops: "{{ team }}"}\nbuckets:',
        ["1:17: ops: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment"],
    ),
    (
        "    bucket: main\n",
        "    bucket: main\n    messages: {ops: $OPS}\n",
        ["9:15: messages: expected text, not a mapping"],
    ),
    ("buckets:", "bucket:", ["1:1: buckets is missing", "1:1: unknown key bucket, did you mean buckets?"]),
    ("    bucket: main", "    bucket: mian", ["8:13: unknown bucket mian, did you mean main?"]),
    ("  ipm:\n    file", "  i pm:\n    file", ["6:3: 'i pm' is no name: letters, digits, _ and - only"]),
    ("-v{version}.db", "-v{versio}.db", ["7:11: file: only {version} may stand in braces, once"]),
    ("-v{version}.db", "-v{version}{version}.db", ["7:11: file: only {version} may stand in braces, once"]),
    (
        "-v{version}.db",
        ".db",
        ["playbooks/ipm.yaml:6:3: with naming: versioned the file ipm-db.db must have {version} in it"],
    ),
    ("    file: ipm", "    file: dbs/ipm", ["7:11: file: a file name is expected, without a folder"]),
    (
        "    bucket: main\n",
        "    bucket: main\n    direction: sideways\n",
        ['9:16: direction: expected both or bucket_to_host, not the text "sideways"'],
    ),
    (
        "    bucket: main\n",
        "    bucket: main\n    key: adb\n  b:\n    file: b-{version}\n    key: adb\n    bucket: main\n",
        ["12:10: key adb is ipm's already"],
    ),
    (
        "    file: ipm-db-v{version}.db\n    bucket: main\n",
        "    file: emoji{version}.db\n    bucket: main\n  emoji2:\n    file: emoji2{version}.db\n    bucket: main\n",
        ["10:11: a file of emoji2{version}.db may have a name of ipm's too, which is emoji{version}.db"],
    ),
    (
        "    bucket: main\n",
        "    bucket: main\n  b:\n    file: ipm-db-v7.db\n    bucket: main\n",
        ["10:11: a file of ipm-db-v7.db may have a name of ipm's too, which is ipm-db-v{version}.db"],
    ),
    (
        "    file: ipm-db-v{version}.db\n",
        "    file: ipm db-v{version}.db\n    plain: true\n",
        ["8:12: plain: ipm db-v{version}.db is no name of an object: letters, digits and _ . @ + = ~ - only"],
    ),
    (
        "        folder: dbs",
        "        connection: ssh\n        folder: dbs",
        ["22:11: prod is another machine: ipm needs a bucket that it reaches too, and main is a folder here"],
    ),
    (
        "        folder: dbs",
        "        address: deploy@db.example.org\n        folder: dbs",
        ["15:9: prod: address is only read with connection: ssh"],
    ),
    (
        "        folder: dbs",
        "        connection: ssh\n        demo: true\n        folder: dbs",
        ["15:9: prod: a demo host is made on this machine: connection must be local"],
    ),
    ("        folder: dbs", "        folder: [dbs]", ["15:17: folder: expected text, not a list"]),
    ("        folder: dbs\n", "", ["15:9: groups.servers.hosts.prod.folder is missing"]),
    (
        "        folder: dbs",
        "        folder: dbs\n        demo: yes",
        ['16:15: demo: expected true or false, not the text "yes"'],
    ),
    ('            stop: "stop {{ db.name }}"\n', "", ["18:13: web: start needs stop beside it"]),
    ('            start: "start {{ db.name }}"\n', "", ["18:13: web: stop needs start beside it"]),
    (
        '            stop: "stop {{ db.name }}"\n            start: "start {{ db.name }}"\n',
        "            stop_timeout: 5s\n",
        ["18:13: web: a service has either stop and start, or disconnect and connect"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        "            stop: a\n            connect: a\n            disconnect: b\n",
        ["18:13: web: a service has either stop and start, or disconnect and connect"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        '            stop: "stop {{ db.nmae }}"\n',
        ["18:19: db has no nmae, did you mean name?"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        '            stop: "stop {{ live.dirty }}"\n',
        ["18:19: live is not defined; known here: color, db, host, project, python, service, team"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        '            stop: "stop {{ db.name"\n',
        ["18:19: not an expression: it is empty or ends too early"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        "            stop: stop\n            stop_timeout: 5\n",
        ["19:27: stop_timeout: expected a duration such as 250ms, 5s, 30m or 2h, not the number 5"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        "            stop: stop\n            stop_timeout: 0s\n",
        ["19:27: stop_timeout: must be more than 0"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        "            stop: stop\n            health: {url: a, command: b}\n",
        ["19:21: health: needs either url or command"],
    ),
    (
        '            stop: "stop {{ db.name }}"\n',
        "            stop: stop\n            health: {urk: a}\n",
        ["19:22: unknown key urk, did you mean url?"],
    ),
    ("            service: web", "            service: wbe", ["22:22: unknown service wbe, did you mean web?"]),
    (
        "          ipm:\n            service: web",
        "          ipmm:\n            service: web",
        [
            "14:7: playbooks/ipm.yaml runs on prod, which has no database ipm",
            "21:11: unknown database ipmm, did you mean ipm? inventory.yaml knows: ipm",
        ],
    ),
    (
        "          ipm:\n            service: web",
        "          ipm: {}",
        ["21:11: ipm does not say which service opens it; service: web or null if none opens it"],
    ),
    (
        "      team: ops",
        "      db: ops",
        [
            "12:7: db is a built-in name: choose another",
            "playbooks/ipm.yaml:21:21: team is not defined; known here: anchor, color, db, "
            "failure, head, host, lease, live, policy, reason, recap, refusal, run, state",
        ],
    ),
    (
        "      team: ops",
        "      my-team: ops",
        ["12:7: 'my-team' is no name for a variable: letters, digits and _ only"],
    ),
    (
        "      team: ops",
        '      team: "{{ nobody }}"',
        [
            "12:13: nobody is not defined; known here: anchor, db, failure, head, host, "
            "lease, live, policy, reason, recap, refusal, run, state",
        ],
    ),
    (
        "  servers:\n",
        "  others:\n    hosts:\n      prod: {folder: x, databases: {}}\n  servers:\n",
        ["17:7: host prod is in group others already"],
    ),
    ("      prod:\n", "      servers:\n", ["14:7: servers is a group too: give the host another name"]),
    ("      prod:\n", "      all:\n", ["14:7: all means every host: give this one another name"]),
]

IN_PLAYBOOK: list[Row] = [
    ("db: ipm", "db: ipmm", ["1:5: unknown database ipmm, did you mean ipm? inventory.yaml knows: ipm"]),
    ("db: ipm", "db: ipm\ndb: ipm", ["2:1: duplicate key db, first in line 1"]),
    ("db: ipm", "db: no", ["1:5: unknown database no; inventory.yaml knows: ipm"]),
    ("db: ipm", "db: true", ["1:5: db: expected text, not true"]),
    (
        "hosts: [servers]",
        "hosts: [servrs]",
        ["2:9: unknown host or group servrs, did you mean servers? inventory.yaml knows: local, prod, servers"],
    ),
    ("hosts: [servers]", "hosts: servers", ['2:8: hosts: expected a list, not the text "servers"']),
    ("hosts: [servers]", "hosts: [servers, 5]", ["2:18: expected text, not the number 5"]),
    ("hosts: [servers]", "host: [servers]", ["1:1: hosts is missing", "2:1: unknown key host, did you mean hosts?"]),
    ("vars:\n", "schedule: {at: '18:00'}\nvars:\n", ["3:11: schedule.host is missing"]),
    ("vars:\n", "schedule: {host: prod}\nvars:\n", ["3:11: schedule: needs either at or every"]),
    (
        "vars:\n",
        "schedule: {host: prod, at: '18:00', every: 6h}\nvars:\n",
        ["3:11: schedule: needs either at or every"],
    ),
    (
        "vars:\n",
        "schedule: {host: prod, at: 6 pm}\nvars:\n",
        ["3:28: at: expected a time of day, as 18:00"],
    ),
    ("vars:\n", "schedule: {host: prod, at: '24:00'}\nvars:\n", ["3:28: at: expected a time of day, as 18:00"]),
    ("vars:\n", "schedule: {host: prod, at: 18}\nvars:\n", ["3:28: at: expected text, not the number 18"]),
    *[
        (
            "vars:\n",
            f"schedule: {{host: prod, every: {every}}}\nvars:\n",
            ["3:11: schedule: every must be whole minutes that divide an hour, or whole hours that divide a day"],
        )
        for every in ("30s", "7m", "90m", "5h", "2d", "0m")
    ],
    (
        "vars:\n",
        "schedule: {host: prod, every: 6}\nvars:\n",
        ["3:31: every: expected a duration such as 250ms, 5s, 30m or 2h, not the number 6"],
    ),
    (
        "vars:\n",
        "schedule: {host: prd, every: 6h}\nvars:\n",
        ["3:18: unknown host prd, did you mean prod? inventory.yaml knows: local, prod"],
    ),
    (
        "hosts: [servers]\nvars:\n",
        "hosts: [local]\nschedule: {host: prod, every: 6h}\nvars:\n",
        [
            "3:18: playbooks/ipm.yaml does not run on prod; it runs on: local",
            "22:21: team is not defined; known here: anchor, color, db, failure, head, host, "
            "lease, live, policy, reason, recap, refusal, run, state",
        ],
    ),
    (
        "vars:\n",
        "schedule: {host: prod, every: 6h, tz: Europe/Berln}\nvars:\n",
        ["3:39: tz: there is no time zone Europe/Berln, did you mean Europe/Berlin?"],
    ),
    ("vars:\n", "schedule: {host: prod, every: 6h, tz: CRON}\nvars:\n", ["3:39: tz: there is no time zone CRON"]),
    ("vars:\n", "schedule: {host: prod, every: 6h, jitter: 1h}\nvars:\n", ["3:43: jitter: must be less than 3600"]),
    (
        "vars:\n",
        "schedule: {host: prod, every: 6h, pull: merge}\nvars:\n",
        ['3:41: pull: expected ff_only, not the text "merge"'],
    ),
    (
        "vars:\n",
        "schedule: {host: prod, every: 6h, ping: https://hc.example/secret}\nvars:\n",
        ["3:41: ping: write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment"],
    ),
    ("vars:\n", "schedule: {host: prod, every: 6h, wiat: 1m}\nvars:\n", ["3:35: unknown key wiat, did you mean wait?"]),
    (
        "vars:\n",
        'schedule: {host: "{{ color }}", every: 6h}\nvars:\n',
        ["3:18: host: '{{ color }}' is no name: letters, digits, _ and - only"],
    ),
    (
        "vars:\n",
        "on_success: [{upload: {file: ours}}]\nvars:\n",
        ["3:14: upload cannot stand under on_success: the run is over"],
    ),
    (
        "  max_downtime: 5s",
        "  max_downtime: 5",
        ["6:17: max_downtime: expected a duration such as 250ms, 5s, 30m or 2h, not the number 5"],
    ),
    (
        "  max_downtime: 5s",
        "  max_downtime: five",
        ['6:17: max_downtime: expected a duration such as 250ms, 5s, 30m or 2h, not the text "five"'],
    ),
    ("  max_downtime: 5s", "  max_downtme: 5s", ["6:3: unknown key max_downtme, did you mean max_downtime?"]),
    ("  max_downtime: 5s", "  naming: stabel", ['6:11: naming: expected versioned or stable, not the text "stabel"']),
    (
        "  max_downtime: 5s",
        "  naming: stable",
        ["6:11: with naming: stable the file ipm-db-v{version}.db must have no {version} in it"],
    ),
    ("  max_downtime: 5s", "  max_deletes: {share: 10}", ["6:24: share: must be at most 1"]),
    ("  max_downtime: 5s", "  max_deletes: {rows: -1}", ["6:23: rows: must be at least 0"]),
    ("  max_downtime: 5s", "  max_deletes: {rows: 1.5}", ["6:23: rows: expected a whole number, not the number 1.5"]),
    ("  max_downtime: 5s", "  max_deletes: 10%", ['6:16: max_deletes: expected a mapping, not the text "10%"']),
    (
        "  max_downtime: 5s",
        "  merge: {default: {on_conflict: newest}}",
        ["6:20: default: on_conflict: newest needs by, the column that tells which row is newer"],
    ),
    (
        "  max_downtime: 5s",
        "  merge: {tables: {t: {on_conflict: our}}}",
        ['6:37: on_conflict: expected fail, ours, theirs or newest, not the text "our"'],
    ),
    (
        "  max_downtime: 5s",
        "  merge: {tables: {t: {on_conflct: ours}}}",
        ["6:24: unknown key on_conflct, did you mean on_conflict?"],
    ),
    (
        "  max_downtime: 5s",
        "  merge: {default: {by: t}}",
        ["6:20: default: by is only read with on_conflict: newest"],
    ),
    (
        "  max_downtime: 5s",
        '  merge: {default: {on_conflict: newest, by: "{{ color }}"}}',
        ["6:46: no template can stand here: write the value"],
    ),
    ("policy:\n  max_downtime: 5s\n", "policy:\n", ["5:8: policy: expected a mapping, not nothing"]),
    (
        "  up_to_date: []\n",
        "",
        ["8:3: scenarios.up_to_date is missing: write up_to_date: [] if nothing is to be done"],
    ),
    (
        "  up_to_date: []\n",
        "  up_to_dat: []\n",
        [
            "8:3: scenarios.up_to_date is missing: write up_to_date: [] if nothing is to be done",
            "8:3: unknown key up_to_dat, did you mean up_to_date?",
        ],
    ),
    ("  up_to_date: []\n", "  up_to_date:\n", ["8:14: up_to_date: expected a list, not nothing"]),
    ("  up_to_date: []\n", "  up_to_date: {}\n", ["8:15: up_to_date: expected a list, not a mapping"]),
    ("  up_to_date: []\n", "  up_to_date: [snapshot]\n", ['8:16: expected a mapping, not the text "snapshot"']),
    ("    - verify: {file: candidate}\n", "", ["18:11: swap needs a verify of candidate before it"]),
    (
        "    - verify: {file: candidate}\n",
        "    - verify: {file: ours}\n",
        ["19:11: swap needs a verify of candidate before it"],
    ),
    (
        '    - message: {text: "held by {{ lease.owner }}"}\n      when',
        "    - snapshot: {}\n      when",
        ["10:7: snapshot cannot stand under locked: another run holds the lease"],
    ),
    (
        '  - message: {text: "{{ team }}: {{ refusal }}"}',
        "  - role: publish",
        [
            "roles/publish/role.yaml:4:5: snapshot cannot stand under on_refused: a refused run changes nothing",
            "roles/publish/role.yaml:6:5: upload cannot stand under on_refused: a refused run changes nothing",
        ],
    ),
    (
        '    - message: {text: "held by {{ lease.owner }}"}\n      when',
        "    - shell: {run: ls, reason: x}\n      when",
        ["10:7: shell cannot stand under locked: another run holds the lease"],
    ),
    (
        "vars:\n",
        "x_common: 1\nvars:\n",
        [
            "3:1: unknown key x_common; known here: about, db, hosts, on_failed, on_refused, on_success, policy, "
            "scenarios, schedule, vars"
        ],
    ),
    ("  color: red", "  minutes: red", ["4:3: minutes is a built-in name: choose another"]),
    (
        "  color: red",
        '  color: "{{ color }}"',
        [
            "4:10: color is not defined; known here: anchor, db, failure, head, host, lease, "
            "live, policy, reason, recap, refusal, run, state, team",
        ],
    ),
    ("  color: red", "  color: 0755\n\tx: 1", ["5:1: a tab: YAML is indented with spaces"]),
]

# In place of the empty list of up_to_date, which stands in line 8.
AS_TASK: list[tuple[str, list[str]]] = [
    (
        "{name: x}",
        [
            "8:16: the task names no module; known here: download, hold, message, rename, "
            "replay, role, shell, snapshot, swap, upload, verify",
        ],
    ),
    ("{snapshoot: {}}", ["8:17: unknown module snapshoot, did you mean snapshot?"]),
    ("{snapshot: {}, verify: {}}", ["8:31: a task does one thing, this one has snapshot and verify"]),
    ("{snapshot: {}, wen: x}", ["8:31: unknown key wen, did you mean when?"]),
    ("{snapshot: {}, block: []}", ["8:31: block belongs to a hold, not to snapshot"]),
    ("{snapshot: {}, vars: {}}", ["8:31: vars belongs to a role, not to snapshot"]),
    ("{snapshot: {to: x}}", ["8:28: unknown key to; known here: as"]),
    ("{snapshot: {as: 5}}", ["8:32: as: expected text, not the number 5"]),
    ("{snapshot: ours}", ['8:27: expected a mapping, not the text "ours"']),
    ("{download: {version: newest}}", ['8:37: version: expected a whole number or head, not the text "newest"']),
    ("{replay: {onto: x}}", ["8:25: from is missing"]),
    ('{replay: {onto: "{{ color }}"}}', ["8:25: from is missing"]),
    ("{verify: {checks: [integrity, row]}}", ['8:46: expected integrity, foreign_keys or rows, not the text "row"']),
    ("{verify: {checks: []}}", ["8:34: checks: must not be empty"]),
    (
        "{message: {to: ops, text: x}}",
        ["8:31: nobody is called ops under messages of inventory.yaml; messages has: nothing"],
    ),
    ("{message: {to: [ops], text: x}}", ["8:31: to: expected text, not a list"]),
    ("{message: {to: the ops, text: x}}", ["8:31: to: 'the ops' is no name: letters, digits, _ and - only"]),
    ('{message: {text: "{{ recap.line }}"}}', ["8:33: recap is known under on_success only"]),
    ('{message: {text: "{{ colr }}"}}', ["8:33: colr is not defined, did you mean color?"]),
    ('{message: {text: "{{ live.dirt }}"}}', ["8:33: live has no dirt, did you mean dirty?"]),
    ('{message: {text: "{{ state.x }}"}}', ["8:33: state has no fields, so no x"]),
    ('{message: {text: "{{ refusal }}"}}', ["8:33: refusal is known under on_refused only"]),
    ("{message: {text: \"{{ ''.__class__ }}\"}}", ["8:33: __class__ cannot be read: the name begins with _"]),
    ('{message: {text: "{% if x %}"}}', ["8:33: statements such as {% if %} are not allowed: use when"]),
    (
        '{message: {text: x}, when: "{{ live.dirty }}"}',
        ["8:43: a bare expression stands here: write it without {{ }}"],
    ),
    ('{message: {text: x}, when: "live.dirty and"}', ["8:43: not an expression: it is empty or ends too early"]),
    ("{message: {text: x}, when: 5}", ["8:43: when: expected text, not the number 5"]),
    ('{message: {text: x}, name: "{{ color }}"}', ["8:43: a name is printed as it is: no template can stand here"]),
    ("{message: {text: x}, name: 5}", ["8:43: name: expected text, not the number 5"]),
    ("{role: publsh}", ["8:23: unknown role publsh, did you mean publish? roles/ has: publish"]),
    ("{role: [publish]}", ["8:23: role: expected the name of a role, not a list"]),
    (
        '{role: publish, vars: {word: "{{ nobody }}"}}',
        [
            "8:45: nobody is not defined; known here: anchor, color, db, failure, head, "
            "host, lease, live, policy, reason, recap, refusal, run, state, team, word",
        ],
    ),
    ("{role: publish, vars: {head: 1}}", ["8:39: head is a built-in name: choose another"]),
    (
        "{swap: {}}",
        ["8:16: swap must stand in the block of a hold", "8:16: swap needs a verify of candidate before it"],
    ),
    ("{rename: }", ["8:16: rename must stand in the block of a hold"]),
    ("{upload: {file: ours}}", ["8:16: upload needs a verify of ours before it"]),
    (
        "{hold: {service: web}, block: [{download: {}}]}",
        ["8:47: download must not stand in a hold: the server would wait for the transfer"],
    ),
    ("{hold: {service: web}, block: [{hold: {}, block: [{rename: {}}]}]}", ["8:47: a hold must not stand in a hold"]),
    ("{hold: {service: web}}", ["8:17: a hold needs a block with at least one task"]),
    ("{hold: {service: web}, block: []}", ["8:17: a hold needs a block with at least one task"]),
    ("{hold: {service: web}, block: {rename: {}}}", ["8:46: block: expected a list, not a mapping"]),
    ("{hold: {service: wbe}, block: [{rename: {}}]}", ["8:33: host prod has no service wbe, did you mean web?"]),
    ("{shell: {run: ls}}", ["8:24: reason is missing"]),
    ('{shell: {run: "", reason: x}}', ["8:30: run: must not be empty"]),
    ('{shell: {run: ls, reason: ""}}', ["8:42: reason: must not be empty"]),
    ("{shell: ls}", ['8:24: expected a mapping, not the text "ls"']),
    ('{shell: {run: "ls {{ colr }}", reason: x}}', ["8:30: colr is not defined, did you mean color?"]),
    (
        "{download: {}, timeout: 5}",
        ["8:40: timeout: expected a duration such as 250ms, 5s, 30m or 2h, not the number 5"],
    ),
    ("{download: {}, timeout: 0s}", ["8:40: timeout: must be more than 0"]),
    ("{download: {}, retries: -1}", ["8:40: retries: must be at least 0"]),
    ("{download: {}, retries: 11}", ["8:40: retries: must be at most 10"]),
    ('{download: {}, retries: "2"}', ['8:40: retries: expected a whole number, not the text "2"']),
    ("{download: {}, retry: 2}", ["8:31: unknown key retry, did you mean retries?"]),
    ("{replay: {from: ours}, retries: 2}", ["8:39: retries cannot stand on replay: it must not be done twice"]),
    (
        "{role: publish, timeout: 5s, retries: 1}",
        [
            "8:32: timeout cannot stand on a role: give it to the role's tasks",
            "8:45: retries cannot stand on a role: give it to the role's tasks",
        ],
    ),
    (
        "{hold: {service: web}, block: [{rename: {}}], timeout: 5s}",
        ["8:62: timeout cannot stand on a hold: policy.max_downtime limits it"],
    ),
    (
        "{hold: {}, block: [{role: publish}]}",
        ["roles/publish/role.yaml:6:5: upload must not stand in a hold: the server would wait for the transfer"],
    ),
    (
        '{message: {text: x}, when: "' + "+".join("1" * 3000) + '"}',
        ["8:43: not an expression: nested too deeply"],
    ),
    ('{message: {text: "{{ ' + "9" * 5000 + ' }}"}}', ["8:33: not an expression: a number has too many digits"]),
]

IN_ROLE: list[Row] = [
    ("defaults:", "default:", ["1:1: unknown key default, did you mean defaults?"]),
    ("  word: done", "  word: [\n", ["5:3: not YAML: expected the node content, but found '-'"]),
    (
        "  - upload: {file: ours}",
        "  - upload: {fil: ours}",
        ["6:13: file is missing", "6:14: unknown key fil, did you mean file?"],
    ),
    ("  - upload: {file: ours}", "  - role: publish", ["6:11: role publish includes itself: publish -> publish"]),
    ("{{ word }}", "{{ wrd }}", ["7:21: wrd is not defined, did you mean word?"]),
    ("tasks:", "argument_specs: []\ntasks:", ["3:17: argument_specs: expected a mapping, not a list"]),
    (
        "tasks:",
        "argument_specs:\n  main:\n    options: {}\ntasks:",
        ["5:5: options: a role here has one entry point, write its arguments directly under argument_specs"],
    ),
    (
        "tasks:",
        "argument_specs: {a: {type: string}}\ntasks:",
        [
            '3:28: type: expected str, int, float, bool, list, dict, duration or size, not the text "string"',
        ],
    ),
    (
        "tasks:",
        "argument_specs: {a: {requird: true}}\ntasks:",
        ["3:22: unknown key requird, did you mean required?"],
    ),
    (
        "tasks:",
        "argument_specs: {a: {required: true, default: x}}\ntasks:",
        ["3:21: a: required and default exclude each other"],
    ),
    (
        "tasks:",
        "argument_specs: {a: {type: int, default: x}}\ntasks:",
        ['3:21: a: default: expected a whole number, not the text "x"'],
    ),
    (
        "tasks:",
        "argument_specs: {a: {choices: [x, y], default: z}}\ntasks:",
        ['3:21: a: default: expected x or y, not the text "z"'],
    ),
    (
        "tasks:",
        "argument_specs: {a: {type: bool, choices: [1]}}\ntasks:",
        ["3:21: a: choices: expected true or false, not the number 1"],
    ),
    ("tasks:", "argument_specs: {a: {choices: []}}\ntasks:", ["3:31: choices: must not be empty"]),
    (
        "tasks:",
        "argument_specs: {word: {default: x}}\ntasks:",
        ["2:3: word has a default under argument_specs: say it once"],
    ),
    (
        "tasks:",
        "argument_specs: {word: {required: true}}\ntasks:",
        ["2:3: word is required under argument_specs: say it once"],
    ),
    ("tasks:", "argument_specs: {head: {}}\ntasks:", ["3:18: head is a built-in name: choose another"]),
    (
        "tasks:",
        "argument_specs: {a-b: {}}\ntasks:",
        ["3:18: 'a-b' is no name for a variable: letters, digits and _ only"],
    ),
    (
        "tasks:",
        "argument_specs: {more: {required: true}}\ntasks:",
        ["playbooks/ipm.yaml:13:13: role publish needs more: give it under vars"],
    ),
]

AS_PLAYBOOK: list[tuple[str, list[str]]] = [
    ("", ["1:1: the file is empty"]),
    ("- a\n", ["1:1: expected a mapping, not a list"]),
    ("just text\n", ['1:1: expected a mapping, not the text "just text"']),
]


def problems(root: Path, **changed: str) -> list[str]:
    with pytest.raises(InvalidProject) as caught:
        load(root, **changed)
    assert caught.value.exit_code == 3
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def at(file: str, lines: list[str]) -> list[str]:
    return [f"{file}:{line}" if line[0].isdigit() else line for line in lines]


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(("old", "new", "lines"), IN_INVENTORY)
def test_a_wrong_inventory_is_told_line_by_line(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    assert problems(tmp_path, inventory=changed(INVENTORY, old, new)) == at("inventory.yaml", lines)


@pytest.mark.parametrize(("old", "new", "lines"), IN_PLAYBOOK)
def test_a_wrong_playbook_is_told_line_by_line(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    assert problems(tmp_path, playbook=changed(PLAYBOOK, old, new)) == at("playbooks/ipm.yaml", lines)


@pytest.mark.parametrize(("task", "lines"), AS_TASK)
def test_a_wrong_task_is_told_line_by_line(tmp_path: Path, task: str, lines: list[str]) -> None:
    playbook = changed(PLAYBOOK, "up_to_date: []", f"up_to_date: [{task}]")
    assert problems(tmp_path, playbook=playbook) == at("playbooks/ipm.yaml", lines)


@pytest.mark.parametrize(("old", "new", "lines"), IN_ROLE)
def test_a_wrong_role_is_told_line_by_line(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    assert problems(tmp_path, role=changed(ROLE, old, new)) == at("roles/publish/role.yaml", lines)


@pytest.mark.parametrize(("text", "lines"), AS_PLAYBOOK)
def test_a_file_that_is_no_playbook_is_told_in_one_line(tmp_path: Path, text: str, lines: list[str]) -> None:
    assert problems(tmp_path, playbook=text) == at("playbooks/ipm.yaml", lines)


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("ipm{version}.db", "ipm{version}.db", True),
        ("ipm{version}.db", "emoji{version}.db", False),
        ("emoji{version}.db", "emoji2{version}.db", True),  # emoji21.db is 21 of the one and 1 of the other
        ("emoji{version}.db", "emoji-v{version}.db", False),
        ("emoji{version}.db", "emoji2-{version}.db", False),
        ("{version}.db", "2026{version}.db", True),
        ("{version}.db", "{version}7.db", True),
        ("a{version}.db", "a{version}.db3", False),
        ("a{version}", "a{version}3", True),
        ("a1{version}.db", "a2{version}.db", False),
        ("1{version}.db", "{version}1.db", True),
        ("a{version}b.db", "a{version}2b.db", True),
        ("a{version}b.db", "ab{version}.db", False),
        ("a{version}.db", "a7.db", True),
        ("a{version}.db", "a.db", False),
        ("a{version}.db", "a7b.db", False),
        ("a{version}.db", "axdb", False),
        ("a{version}xdb", "a7.db", False),
        ("a.db", "a.db", True),
        ("a.db", "b.db", False),
    ],
)
def test_whether_two_patterns_may_give_one_name(one: str, other: str, may: bool) -> None:
    assert may_be_one_name(one, other) is may
    assert may_be_one_name(other, one) is may


def test_everything_wrong_in_every_file_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        inventory=changed(INVENTORY, "path: bucket", "path: 5\n    size: 3"),
        playbook=changed(PLAYBOOK, "up_to_date: []", "up_to_date: [{snapshoot: {}}, {message: {txt: a}}]"),
        role=changed(ROLE, "as: ours", "as: {}"),
    )
    assert found == [
        "inventory.yaml:4:11: path: expected text, not the number 5",
        "inventory.yaml:5:5: unknown key size; known here: path, type",
        "playbooks/ipm.yaml:8:17: unknown module snapshoot, did you mean snapshot?",
        "playbooks/ipm.yaml:8:43: text is missing",
        "playbooks/ipm.yaml:8:44: unknown key txt, did you mean text?",
        "roles/publish/role.yaml:4:20: as: expected text, not a mapping",
    ]


def test_a_wrong_shape_hides_no_other_mistake_and_invents_none(tmp_path: Path) -> None:
    wrong = changed(PLAYBOOK, "vars:\n  color: red\n", "vars: red\n")
    assert problems(tmp_path, playbook=changed(wrong, "hold:", "holt:")) == at(
        "playbooks/ipm.yaml",
        [
            '3:7: vars: expected a mapping, not the text "red"',
            "16:7: unknown module holt, did you mean hold?",
        ],
    )


def test_ten_mistakes_in_one_file_are_told_in_one_go(tmp_path: Path) -> None:
    playbook = """\
db: ipmm
hosts: [servers, servrs]
vars: {state: red}
policy:
  max_downtime: 5
  nmaing: stable
scenarios:
  up_to_date: [{snapshoot: {}}]
  locked: [{upload: {file: ours}}]
  ready_to_upload: [{role: publsh}, {swap: {}}]
  outdated_db: [{message: {text: "{{ colr }}"}, retries: many}]
on_refused: [{shell: {run: ls}}]
"""
    assert problems(tmp_path, playbook=playbook) == at(
        "playbooks/ipm.yaml",
        [
            "1:5: unknown database ipmm, did you mean ipm? inventory.yaml knows: ipm",
            "2:18: unknown host or group servrs, did you mean servers? inventory.yaml knows: local, prod, servers",
            "5:17: max_downtime: expected a duration such as 250ms, 5s, 30m or 2h, not the number 5",
            "6:3: unknown key nmaing, did you mean naming?",
            "8:17: unknown module snapshoot, did you mean snapshot?",
            "9:12: upload cannot stand under locked: another run holds the lease",
            "10:28: unknown role publsh, did you mean publish? roles/ has: publish",
            "10:37: swap must stand in the block of a hold",
            "10:37: swap needs a verify of candidate before it",
            '11:58: retries: expected a whole number, not the text "many"',
            "12:22: reason is missing",
        ],
    )


def test_a_second_playbook_of_one_database_is_refused(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"playbooks/other.yaml": PLAYBOOK})
    with pytest.raises(InvalidProject) as caught:
        load_project(tmp_path, MODULES)
    assert caught.value.problems == ["playbooks/other.yaml:1:5: ipm has a playbook already: playbooks/ipm.yaml"]


def test_files_that_would_be_passed_over_are_told(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"playbooks/other.yml": PLAYBOOK})
    (tmp_path / "roles" / "empty").mkdir()
    (tmp_path / "playbooks" / "latin.yaml").write_bytes("db: ipm\nabout: Übung\n".encode("latin-1"))
    with pytest.raises(InvalidProject) as caught:
        load_project(tmp_path, MODULES)
    assert caught.value.problems == [
        "playbooks/latin.yaml:2:8: not UTF-8",
        "playbooks/other.yml:1:1: not read: playbooks end in .yaml",
        "roles/empty/role.yaml:1:1: cannot be read: no such file or directory",
    ]


def test_roles_that_include_each_other_are_told_with_the_way_around(tmp_path: Path) -> None:
    write(tmp_path, FILES | {f"roles/{one}/role.yaml": f"tasks:\n  - role: {two}\n" for one, two in ("ab", "bc", "ca")})
    with pytest.raises(InvalidProject) as caught:
        load_project(tmp_path, MODULES)
    assert caught.value.problems == [
        "roles/a/role.yaml:2:11: role b includes itself: b -> c -> a -> b",
        "roles/b/role.yaml:2:11: role c includes itself: c -> a -> b -> c",
        "roles/c/role.yaml:2:11: role a includes itself: a -> b -> c -> a",
    ]


def test_a_variable_that_one_host_lacks_is_told_with_the_host(tmp_path: Path) -> None:
    second = "  more:\n    hosts:\n      spare:\n        folder: x\n        databases: {ipm: {}}\n"
    found = problems(
        tmp_path,
        inventory=INVENTORY + second,
        playbook=changed(PLAYBOOK, "hosts: [servers]", "hosts: [servers, spare]"),
    )
    assert found == ["playbooks/ipm.yaml:21:21: team is not defined for host spare"]


def test_a_name_that_messages_does_not_have_is_told_with_the_one_that_is_meant(tmp_path: Path) -> None:
    """In a playbook and in a role that it uses; what an expression gives is known in a run only."""
    found = problems(
        tmp_path,
        inventory=INVENTORY.replace("buckets:", "messages: {ops: $OPS, ipm_team: [$ONE, $TWO]}\nbuckets:"),
        playbook=changed(PLAYBOOK, "up_to_date: []", "up_to_date: [{message: {to: opps, text: a}}]"),
        role=changed(ROLE, 'message: {text: "{{ word }}"}', 'message: {to: ipmteam, text: "{{ word }}"}'),
    )
    assert found == [
        "playbooks/ipm.yaml:8:31: nobody is called opps under messages of inventory.yaml, did you mean ops? "
        "messages has: ipm_team, ops",
        "roles/publish/role.yaml:7:19: nobody is called ipmteam under messages of inventory.yaml, "
        "did you mean ipm_team? messages has: ipm_team, ops",
    ]
