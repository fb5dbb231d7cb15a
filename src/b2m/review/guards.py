"""What a plan proves before it puts a file live or publishes it, and what of that is gone in another plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from b2m.project.tasks import HOLD
from b2m.review.steps import Step, shown

Proofs: TypeAlias = Mapping[str, frozenset[frozenset[str]]]
"""Check -> the conditions under each of which it is made."""

_PUTS_OUT = {"swap": "put live", "upload": "published"}


def weaker(before: Sequence[Step], after: Sequence[Step]) -> Iterator[str]:
    """Every guard of a plan that another one lacks, in words."""
    proven = _proven(before)
    for module, proofs in _proven(after).items():
        yield from _lost_checks(_PUTS_OUT[module], proven.get(module, {}), proofs)
    if _without_late_rows(after) and not _without_late_rows(before):
        yield "a swap no longer takes the late rows first: what the server wrote since the last replay would be missing"
    if any(_holds(before)) and None in _holds(after) and None not in _holds(before):
        yield "a hold no longer names a service: the file would be exchanged while the server has it open"


def new_commands(before: Sequence[Step], after: Sequence[Step]) -> Iterator[str]:
    """Every shell command that one plan has and the other has not, in words."""
    known = {step.args.get("run") for step in before if step.module == "shell"}
    for step in after:
        if step.module == "shell" and step.args.get("run") not in known:
            run, reason = (shown(step.args.get(key, ""), key) for key in ("run", "reason"))
            asleep = "; not run by default" if step.asleep else ""
            yield f"new shell command, which nothing undoes: {run}, reason: {reason}{asleep}"


def _lost_checks(put_out: str, before: Proofs, after: Proofs) -> Iterator[str]:
    if before and not after:
        yield f"verify removed: the file is {put_out} without it"
        return
    lost = [check for check in before if check not in after]
    if lost:
        yield f"verify no longer checks {_all(lost)} of the file that is {put_out}"
    sometimes: dict[str, list[str]] = {}
    for check in before:
        for conditions in sorted(before[check], key=sorted) if check in after else ():
            if not any(made <= conditions for made in after[check]):
                only = " and ".join(sorted(min(after[check], key=sorted) - conditions))
                sometimes.setdefault(only, []).append(check)
                break
    for only, checks in sometimes.items():
        yield f"verify checks {_all(checks)} of the file that is {put_out} only when {only}"


def _all(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _proven(plan: Sequence[Step]) -> dict[str, Proofs]:
    """What is proven of each file that is put out; of several by one module, what is proven of all."""
    found: dict[str, Proofs] = {}
    for index, step in enumerate(plan):
        if step.module not in _PUTS_OUT:
            continue
        proofs: dict[str, frozenset[frozenset[str]]] = {}
        for earlier in plan[:index]:
            if earlier.module == "verify" and earlier.args.get("file") == step.args.get("file"):
                checks = earlier.args.get("checks")
                for check in checks if isinstance(checks, list) else [str(checks)]:
                    # What the step itself waits for, its proof may wait for too.
                    need = earlier.conditions - step.conditions
                    proofs[check] = proofs.get(check, frozenset()) | {need}
        known = found.get(step.module)
        found[step.module] = proofs if known is None else {key: known[key] for key in known if key in proofs}
    return found


def _without_late_rows(plan: Sequence[Step]) -> bool:
    """Whether a swap is not preceded, in its hold, by a replay of live."""
    for index, step in enumerate(plan):
        if step.module == "swap" and not any(
            earlier.module == "replay"
            and earlier.hold == step.hold
            and earlier.args.get("from") == "live"
            and earlier.args.get("onto") == step.args.get("file")
            for earlier in plan[:index]
        ):
            return True
    return False


def _holds(plan: Sequence[Step]) -> set[object]:
    return {step.args.get("service") for step in plan if step.module == HOLD}
