"""A TOML table that checks types when a key is read, and knows which keys were not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, overload

from capvec.errors import UsageError
from capvec.reading import shown

LARGEST = 2_000_000
"""The largest number of seconds, CPUs and the like: 23 days, in milliseconds, are what timeouts of sockets hold."""
LARGEST_WHOLE = 1 << 32
"""The largest whole number: of processes, attempts, MB."""
_LONGEST = 100
"""Characters of a value in a message."""


class Table:
    """One table of a TOML file. Reading a key marks it as known.

    Every method that reads raises `UsageError` for a value of the wrong type; the message names file, key and value.
    """

    def __init__(self, values: Mapping[str, Any], *, file: str, prefix: str = "") -> None:
        self._values = values
        self._file = file
        self._prefix = prefix
        self._known: set[str] = set()
        self._tables: dict[str, Table] = {}
        self._lists: dict[str, tuple[Table, ...]] = {}

    def reject(self, key: str, expected: str) -> NoReturn:
        """Raise the error for a key."""
        value = "is not set"
        if key in self._values:
            written = repr(self._values[key])
            value = f"= {written if len(written) <= _LONGEST else written[:_LONGEST] + '…'}"
        raise UsageError(f"{self._file}: {shown(self._prefix + key)} {value}; expected {expected}")

    def take(self, key: str) -> Any:
        """The raw value, or None if the key is not set (TOML has no null)."""
        self._known.add(key)
        return self._values.get(key)

    def take_all(self) -> dict[str, Any]:
        """Every raw value."""
        self._known.update(self._values)
        return dict(self._values)

    def table(self, key: str) -> Table:
        """The table under `key`, empty if it is not set; the same object at every call."""
        if key not in self._tables:
            value = self.take(key)
            if value is not None and not isinstance(value, dict):
                self.reject(key, "a table")
            self._tables[key] = Table(value or {}, file=self._file, prefix=f"{self._prefix}{key}.")
        return self._tables[key]

    def text(self, key: str) -> str | None:
        """A string that is not blank."""
        value = self.take(key)
        if value is not None and not (isinstance(value, str) and value.strip()):
            self.reject(key, "a non-empty string")
        return value

    def flag(self, key: str) -> bool | None:
        """A truth value."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            self.reject(key, "true or false")
        return value

    def positive(self, key: str, default: float) -> float:
        """A number above 0 and up to `LARGEST`. `nan` and `true`, which Python counts as 1, are refused."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
            self.reject(key, f"a number above 0, at most {LARGEST:,}")
        return float(value)

    def number(self, key: str, default: float, *, minimum: float) -> float:
        """A number of at least `minimum` and at most `LARGEST`."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= LARGEST:
            self.reject(key, f"a number of at least {minimum:g}, at most {LARGEST:,}")
        return float(value)

    @overload
    def whole(self, key: str, default: int, *, minimum: int) -> int: ...
    @overload
    def whole(self, key: str, default: None, *, minimum: int) -> int | None: ...
    def whole(self, key: str, default: int | None, *, minimum: int) -> int | None:
        """A whole number of at least `minimum` and at most `LARGEST_WHOLE`."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= LARGEST_WHOLE:
            self.reject(key, f"a whole number of at least {minimum}, at most {LARGEST_WHOLE:,}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings that are not blank; empty if the key is not set."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            self.reject(key, "a list of non-empty strings")
        return tuple(value)

    def tables(self, key: str, *, text_key: str | None = None) -> tuple[Table, ...]:
        """The tables of a list (`[[key]]`), empty if it is not set; the same objects at every call.

        Args:
            key: of the list.
            text_key: where an entry may be a mere string, the key that it stands for.
        """
        if key not in self._lists:
            entries = self.take(key)
            if entries is None:
                entries = []
            if not isinstance(entries, list):
                self.reject(key, "a list of tables")
            if text_key is not None:
                entries = [{text_key: entry} if isinstance(entry, str) else entry for entry in entries]
            if not all(isinstance(entry, dict) for entry in entries):
                self.reject(key, "a list of tables" + (" or of strings" if text_key else ""))
            self._lists[key] = tuple(
                Table(entry, file=self._file, prefix=f"{self._prefix}{key}[{number}].")
                for number, entry in enumerate(entries)
            )
        return self._lists[key]

    def ignore(self, key: str) -> None:
        """Mark a key, with all that it holds, as known."""
        self._known.add(key)

    def unread(self) -> Iterator[str]:
        """Full names of the keys that were not read, in the order of the file."""
        for key in self._values:
            if key in self._tables:
                yield from self._tables[key].unread()
            elif key in self._lists:
                for table in self._lists[key]:
                    yield from table.unread()
            elif key not in self._known:
                yield shown(self._prefix + key)

    def forbid_unknown(self) -> None:
        """Refuse keys that were not read.

        Raises:
            UsageError: there is one; the message names it and the known keys.
        """
        for key in self._values:
            if key not in self._known:
                self.reject(key, f"one of {', '.join(sorted(self._known))}")
