"""`dataclass`, put off: its methods are written when the first instance of a class is made.

Nodes, operations, regions and findings are some three hundred data classes, of which one command on one spec uses a
third; writing the methods of them all would be a quarter of what a command takes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """`dataclasses.dataclass`, carried out when an instance is made or the fields are asked for.

        Until then, a class attribute that is a field's default may still be a `dataclasses.Field`. No two
        threads may make the first instance at once: what archc offers to other programs takes turns.
        """
        if cls is None:
            return lambda cls: dataclass(cls, **options)

        def __init__(self: Any, *args: Any, **more: Any) -> None:
            dataclasses.fields(cls)  # finishes the class
            cls.__init__(self, *args, **more)

        cls.__init__ = __init__
        cls.__dataclass_fields__ = _Fields(cls, options)
        return cls


class _Fields:
    """Stands where the fields of a class will be; whoever asks for them, as a subclass does, has the class finished."""

    def __init__(self, cls: Any, options: dict[str, bool]) -> None:
        self.cls, self.options = cls, options

    def __get__(self, instance: object, owner: type) -> Any:
        del self.cls.__dataclass_fields__, self.cls.__init__
        dataclasses.dataclass(**self.options)(self.cls)
        return owner.__dataclass_fields__  # type: ignore[attr-defined]
