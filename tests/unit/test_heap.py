"""What was loaded before a run is no work for the garbage collector while it lasts."""

import gc

from judgeflow.cli.heap import kept_out_of_collections


class Loaded:
    """Something that only the garbage collector could find unused."""


def test_what_was_loaded_is_left_out_of_collections_until_the_block_ends():
    loaded = Loaded()
    with kept_out_of_collections():
        assert not any(thing is loaded for thing in gc.get_objects())
        fresh = Loaded()
        assert any(thing is fresh for thing in gc.get_objects())
    assert any(thing is loaded for thing in gc.get_objects())
    assert gc.get_freeze_count() == 0
