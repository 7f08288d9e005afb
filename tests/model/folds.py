"""The folds that other functions do, call by call: FoldPartitions, and UploadSnapshot's use of the results.

Each changed collection is an item. To the model it stands for any directory, so also for a partition. An attempt of an
item uploads its file under the folder of a snapshot id of its own, and stores a part of the manifest that names it.
Such a part is a number like that of a snapshot, and never has a manifest. The items run one after the other.
"""

from __future__ import annotations

from tests.model.execution import EXECUTION, Execution, conflict, folded, next_task, renewing
from tests.model.protocol import Rules, with_step
from tests.model.state import NONE, Snapshot, State, Transitions, bits, file_bit, with_actor

renewing("fold", "steps.fold_partitions.fold_partition", "fold.base")


def _draft(rules: Rules, me: Execution) -> Snapshot:
    draft = folded(rules, me)
    assert draft is not None
    return draft


def _items(draft: Snapshot) -> list[int]:
    """Return the collections that change."""
    return [c for c, owner in enumerate(draft.files) if owner == NONE and draft.ledger[c] is not None]


def _item_of(me: Execution, collection: int) -> str:
    return f"fold of {collection} for {me.commit}"


def _part(rules: Rules, me: Execution) -> tuple[int, int]:
    """Return the number of the part that this attempt makes, and its collection."""
    draft = _draft(rules, me)
    collection = _items(draft)[len(me.parts)]
    return rules.snapshots.number(draft._replace(maker=f"{_item_of(me, collection)}/{me.attempt}")), collection


@EXECUTION.step("fold.base", models="snapshots.base.read_base", call="get pointer")
def _base(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if s.pointer != me.base:
        yield conflict(rules, s, i, me, "fold")
    else:
        step = "fold.part" if rules.defects.part_of_another_attempt_taken else "fold.file"
        yield "fold: the base is still published", with_step(s, i, me, step)


@EXECUTION.step("fold.file", models="snapshots.files.upload", call="put files")
def _file(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    s = s._replace(files=s.files | file_bit(*_part(rules, me)))
    if rules.defects.part_of_another_attempt_taken:
        yield "fold: writes its file last", _folded(rules, s, i, me)
    else:
        yield "fold: writes its file under a fresh key", with_step(s, i, me, "fold.part")


@EXECUTION.step("fold.part", models="steps.fold_partitions.fold_partition", call="put part")
def _store(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    s = s._replace(parts=s.parts | 1 << _part(rules, me)[0])
    if rules.defects.part_of_another_attempt_taken:
        # Either rule alone is enough: a part is stored after its files, and only a part of a finished attempt is taken.
        yield "fold: stores its part of the manifest first", with_step(s, i, me, "fold.file")
    else:
        yield "fold: stores its part of the manifest", _folded(rules, s, i, me)


def _folded(rules: Rules, s: State, i: int, me: Execution) -> State:
    """Return the state after an item: the Map's result names this attempt's part."""
    items = len(_items(_draft(rules, me)))
    me = me._replace(parts=(*me.parts, _part(rules, me)[0]))
    return next_task(s, i, me, "fold.renew" if len(me.parts) < items else "upload.renew")


@EXECUTION.step("upload.collect", models="steps.fold_partitions.collect", call="get parts")
def _collect(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    draft = _draft(rules, me)
    files = list(draft.files)
    for collection, named in zip(_items(draft), me.parts, strict=True):
        files[collection] = named
        if rules.defects.part_of_another_attempt_taken:
            makers = ((number, rules.snapshots[number].maker) for number in bits(s.parts))
            files[collection] = next(n for n, maker in makers if maker.startswith(_item_of(me, collection)))
    me = me._replace(draft=rules.snapshots.number(draft._replace(files=tuple(files))))
    yield "upload: collects the parts", with_actor(s, i, me._replace(step="upload.files"))
