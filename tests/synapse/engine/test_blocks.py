# SPDX-License-Identifier: BUSL-1.1
import random

import pytest

from mlos_core.synapse.engine.blocks import BlockManager, block_name, root_name


def names_of(*texts, owner="me", salt=""):
    names, before = [], root_name(owner, salt)
    for text in texts:
        before = block_name(before, text)
        names.append(before)
    return names


def filled(manager, names):
    blocks = [manager.allocate() for _ in names]
    for block, name in zip(blocks, names, strict=True):
        manager.name(block, name)
    return blocks


def test_a_released_block_is_found_by_its_name():
    manager, names = BlockManager(4, 32), names_of(b"a", b"b")
    blocks = filled(manager, names)
    first = list(blocks)
    manager.release(blocks)
    assert manager.available == 4
    assert blocks == []
    assert manager.find(names) == first
    assert manager.find(names_of(b"a", b"c")) == first[:1]
    assert manager.find(names_of(b"b")) == []


def test_names_tell_owners_salts_and_all_that_came_before_apart():
    named = {
        names_of(b"a", b"b", owner=owner, salt=salt)[1]
        for owner, salt in [("a", ""), ("b", ""), ("a", "b"), ("", "ab"), ("ab", "")]
    }
    assert len(named | {names_of(b"b")[0], names_of(b"c", b"b")[1]}) == 7


def test_the_block_unused_for_longest_goes_first_and_a_prefix_after_what_follows_it():
    manager = BlockManager(4, 32)
    old, new = names_of(b"old", b"old 2"), names_of(b"new", b"new 2")
    for names in (old, new):
        manager.release(filled(manager, names))
    manager.allocate()
    assert len(manager.find(old)) == 1
    manager.allocate()
    assert manager.find(old) == []
    assert len(manager.find(new)) == 2


def test_shared_blocks_are_free_when_the_last_one_lets_go():
    manager, names = BlockManager(2, 32), names_of(b"a")
    blocks = filled(manager, names)
    other = manager.find(names)
    assert manager.unheld(other) == 0
    manager.share(other)
    manager.release(blocks)
    assert manager.available == 1
    manager.release(other)
    assert manager.available == 2
    assert manager.unheld(manager.find(names)) == 1


def test_of_two_equal_blocks_the_first_keeps_the_name():
    manager, names = BlockManager(2, 32), names_of(b"a")
    first, second = filled(manager, names), filled(manager, names)
    assert manager.find(names) == first
    manager.release(second)
    manager.check_integrity([first])


def test_wrong_books_are_noticed():
    manager = BlockManager(3, 32)
    block = manager.allocate()
    manager.check_integrity([[block]])
    for held in ([], [[block], [block]], [[block + 1]]):
        with pytest.raises(RuntimeError, match="blocks"):
            manager.check_integrity(held)


@pytest.mark.parametrize("seed", range(10))
def test_the_books_are_right_after_any_steps(seed):
    rng = random.Random(seed)
    manager, held = BlockManager(12, 32), []
    for _ in range(400):
        names = names_of(*(bytes([rng.randrange(3)]) for _ in range(rng.randrange(1, 5))))
        known = manager.find(names)
        fresh = len(names) - len(known)
        if rng.random() < 0.5 and manager.available >= fresh + manager.unheld(known):
            manager.share(known)
            blocks = known + [manager.allocate() for _ in range(fresh)]
            for block, name in zip(blocks, names, strict=True):
                manager.name(block, name)
            held.append(blocks)
        elif held:
            manager.release(held.pop(rng.randrange(len(held))))
            held = [blocks for blocks in held if blocks]
        manager.check_integrity(held)
