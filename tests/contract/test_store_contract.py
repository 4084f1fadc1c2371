"""Every shipped store keeps the contract of their port, and the contract notices a store that does not."""

import pytest

from judgeflow.store import MemoryStore, SqlStore
from judgeflow.testing import StoreContract, VirtualClock


class TestSqlStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, tmp_path):
        self.path = tmp_path / "verdicts.db"

    async def make_store(self):
        return await SqlStore.open(str(self.path))


@pytest.mark.slow
class TestSqlStoreOnPostgresql(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgresql_url):
        self.url = postgresql_url

    async def make_store(self):
        return await SqlStore.open(self.url)


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _contents(self):
        self.origin = MemoryStore()

    async def make_store(self):
        return self.origin.reopen()


class TestMemoryStoreInVirtualTime(TestMemoryStore):
    def run(self, main):
        VirtualClock().run(main)


class _Forgetful(MemoryStore):
    """Never remembers anything that an earlier instance stored."""

    def reopen(self):
        return _Forgetful()


class _Generous(MemoryStore):
    """Grants every reservation."""

    async def reserve(self, run, reservation, stock):
        await super().reserve(run, reservation, type(stock)())
        return True


@pytest.mark.parametrize(
    ("store", "promise"),
    [
        (_Generous, "test_nothing_is_put_aside_for_a_question_whose_reply_is_stored_and_the_reply_is_returned"),
        (_Forgetful, "test_a_settled_reply_is_read_back_as_it_was_by_whoever_opens_the_store_next"),
        (_Forgetful, "test_reservations_left_open_stay_charged_after_reopening"),
        (_Generous, "test_a_thousand_concurrent_reservations_never_pass_the_stock"),
        (_Generous, "test_two_stores_on_the_same_contents_share_one_stock"),
    ],
)
def test_the_contract_notices_a_store_that_breaks_a_promise(store, promise):
    class Broken(StoreContract):
        async def make_store(self):
            return origin.reopen() if store is _Forgetful else _sharing(origin)

    origin = store()
    with pytest.raises(AssertionError):
        getattr(Broken(), promise)()


def _sharing(origin):
    other = _Generous()
    other._contents = origin._contents
    return other
