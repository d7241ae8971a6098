"""Spill policy: one round at a time, the largest holder first, and a clear end for whoever waits."""

from __future__ import annotations

from raybook.core.node import spill_policy as sp
from raybook.protocol.messages.store import SpilledItem, SpillItem

MIB = 1 << 20
ANNA, BOB = b"anna", b"bob"
ITEMS = [SpillItem(b"one", 0, 8 * MIB)]
PLACED = [SpilledItem(b"one", 0, 1)]


def policy() -> sp.SpillPolicy:
    """80 MiB, of which 64 may be used before spilling begins, and 54 after it."""
    return sp.SpillPolicy(80 * MIB, 0.8, 100 * MIB)


def level(
    used_mib: int, wanted_mib: int = 0, request: int = 0, owners: tuple[bytes, ...] = (ANNA, BOB), returned_mib: int = 0
) -> sp.Level:
    return sp.Level(used_mib * MIB, wanted_mib * MIB, request, list(owners), returned_mib * MIB)


def test_nothing_is_spilled_below_the_threshold():
    machine = policy()

    assert machine.handle([level(64)], 0) == []
    assert machine.next_deadline_ms() is None


def test_largest_holder_is_asked_for_what_is_above_the_low_mark():
    (ask,) = policy().handle([level(66)], 0)

    assert ask == sp.AskOwner(ANNA, 1, 12 * MIB)


def test_round_goes_from_choice_to_file_to_letting_go():
    machine = policy()
    machine.handle([level(66)], 0)

    assert machine.handle([level(66), sp.Chosen(ANNA, 1, ITEMS)], 1) == [sp.WriteFile(ANNA, 1, ITEMS)]
    assert machine.handle([level(70)], 2) == []
    assert machine.handle([level(70), sp.Written(1, "/f", PLACED)], 3) == [sp.TellOwner(ANNA, 1, "/f", PLACED)]
    assert machine.handle([level(58), sp.LetGo(ANNA, 1, 12 * MIB)], 4) == []
    assert not machine.is_active
    machine.check_invariants()


def test_owner_without_anything_to_offer_is_passed_over_for_a_while():
    machine = policy()
    machine.handle([level(66)], 0)

    (second,) = machine.handle([level(66), sp.Chosen(ANNA, 1, [])], 1)
    nothing = machine.handle([level(66), sp.Chosen(BOB, 2, [])], 2)
    (again,) = machine.handle([level(66)], machine.next_deadline_ms())

    assert (second.client_id, nothing, again.client_id) == (BOB, [], ANNA)


def test_owner_that_returned_idle_room_instead_is_not_called_dry():
    machine = policy()
    machine.handle([level(78)], 0)

    (ask,) = machine.handle([level(70, returned_mib=8), sp.Chosen(ANNA, 1, [])], 1)

    assert ask.client_id == ANNA


def test_owner_whose_returned_room_was_granted_at_once_is_not_called_dry():
    """Who waits for room takes it in the same moment: the store is as full as before."""
    machine = policy()
    machine.handle([level(70)], 0)

    (ask,) = machine.handle([level(70, returned_mib=4), sp.Chosen(ANNA, 1, [])], 1)

    assert ask.client_id == ANNA


def test_waiting_request_is_told_once_when_nobody_has_anything():
    machine = policy()
    machine.handle([level(60, wanted_mib=30, request=7, owners=(ANNA,))], 0)

    effects = machine.handle([level(60, 30, 7, (ANNA,)), sp.Chosen(ANNA, 1, [])], 1)

    assert effects == [sp.GiveUp(7, "")]
    assert machine.handle([level(60, 30, 7, (ANNA,))], 2) == []
    assert machine.handle([level(60, 30, 8, (ANNA,))], 3) == [sp.AskOwner(ANNA, 2, 10 * MIB)]


def test_disk_that_takes_nothing_is_named_and_left_alone_for_a_while():
    machine = policy()
    machine.handle([level(60, 30, 7)], 0)
    machine.handle([level(60, 30, 7), sp.Chosen(ANNA, 1, ITEMS)], 1)

    tell = machine.handle([level(60, 30, 7), sp.Written(1, "", [], "No space left on device")], 2)
    effects = machine.handle([level(60, 30, 7), sp.LetGo(ANNA, 1, 0)], 3)

    assert tell == [sp.TellOwner(ANNA, 1, "", [])]
    assert effects == [sp.GiveUp(7, "No space left on device")]
    assert machine.handle([level(60, 30, 7)], 2 + sp.DISK_PAUSE_MS) == [sp.AskOwner(ANNA, 2, 10 * MIB)]


def test_silent_owner_is_given_up_and_its_late_answer_ignored():
    machine = policy()
    machine.handle([level(66)], 0)

    (ask,) = machine.handle([level(66)], machine.next_deadline_ms())

    assert (ask.client_id, ask.query_id) == (BOB, 2)
    assert machine.handle([level(66), sp.Chosen(ANNA, 1, ITEMS)], sp.ANSWER_TIMEOUT_MS + 1) == []


def test_slow_disk_is_waited_for():
    machine = policy()
    machine.handle([level(66)], 0)
    machine.handle([level(66), sp.Chosen(ANNA, 1, ITEMS)], 1)

    assert machine.next_deadline_ms() is None
    assert machine.handle([level(80, 10, 3)], 1_000_000) == []


def test_file_of_an_owner_that_died_meanwhile_is_dropped():
    machine = policy()
    machine.handle([level(66)], 0)
    machine.handle([level(66), sp.Chosen(ANNA, 1, ITEMS)], 1)

    machine.handle([level(50, owners=(BOB,)), sp.OwnerDied(ANNA)], 2)
    effects = machine.handle([level(50, owners=(BOB,)), sp.Written(1, "/f", PLACED)], 3)

    assert effects == [sp.DropFile("/f")]


def test_room_that_is_still_on_its_way_back_is_not_asked_for_twice():
    machine = policy()
    machine.handle([level(70)], 0)
    machine.handle([level(70), sp.Chosen(ANNA, 1, ITEMS)], 1)
    machine.handle([level(70), sp.Written(1, "/f", PLACED)], 2)

    assert machine.handle([level(70), sp.LetGo(ANNA, 1, 16 * MIB)], 3) == []
    (ask,) = machine.handle([level(70)], machine.next_deadline_ms())
    assert isinstance(ask, sp.AskOwner)


def test_store_gives_way_below_its_threshold_while_memory_of_the_node_is_short():
    machine = policy()
    short = sp.Level(30 * MIB, 0, 0, [ANNA, BOB], 0, target_bytes=22 * MIB)

    (ask,) = machine.handle([short], 0)
    assert ask == sp.AskOwner(ANNA, 1, 8 * MIB)
    machine.handle([short, sp.Chosen(ANNA, 1, ITEMS)], 1)
    machine.handle([short, sp.Written(1, "/f", PLACED)], 2)
    (again,) = machine.handle([sp.Level(26 * MIB, 0, 0, [ANNA], 0, 22 * MIB), sp.LetGo(ANNA, 1, 4 * MIB)], 3)
    assert again == sp.AskOwner(ANNA, 2, 4 * MIB)


def test_store_is_left_alone_when_memory_of_the_node_is_enough_again():
    machine = policy()
    machine.handle([sp.Level(30 * MIB, 0, 0, [ANNA], 0, target_bytes=22 * MIB)], 0)
    machine.handle([sp.Chosen(ANNA, 1, [])], 1)

    assert machine.handle([level(30)], 2) == []
    assert machine.next_deadline_ms() is None
