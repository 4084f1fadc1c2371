"""The verdict database: every reply that was paid for, what was decided with it, and what the run has spent.

    schema.py      tables, and the revisions of the schema          migrate.py   create, upgrade, recognise a database
    engines.py     addresses                                        failures.py  driver errors -> StoreUnavailable
    database.py    what every kind of database offers               texts.py     texts with any characters
    sqlite.py      verdicts in a file                               postgresql.py  verdicts on a server
    ledger.py      budget arithmetic of one run, pure               queries.py   read-only figures about a database
    operations.py  one write, and the rows it stands for            check.py     proves that a database is sound
    transaction.py a batch of writes inside one transaction         memory.py    `MemoryStore`
    writer.py      groups concurrent writes into batches            sql.py       `SqlStore`
    upkeep.py      what the three verbs beside share                reparse.py   reads stored replies again
    compact.py     lets go of what is no longer needed              merge.py     several databases into one
    identities.py  judges, and how they are named                  readonly.py  files that can only be read

This package is the only one that imports SQLAlchemy; nothing here is imported before a store is used.
"""

from judgeflow.store.memory import MemoryStore
from judgeflow.store.sql import SqlStore

__all__ = ["MemoryStore", "SqlStore"]
