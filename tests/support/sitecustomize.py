"""What Python imports at its start, here in each process that a test starts with `tests/support` on its path."""

import unsynced as unsynced
