"""Public functions as methods of what they take: `data.audit()` is `lesionlab.audit(data)`."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")


class PublicFunction(Generic[P, R]):
    """A method that is a public function, found when it is first asked for.

    So a class of a low room, such as `Catalogue`, offers what higher rooms do with it, and imports
    none of them. Help, signature and types are those of the function.

    Args:
        find: gives the function, whose first argument is the object.
    """

    def __init__(self, find: Callable[[], Callable[Concatenate[Any, P], R]]) -> None:
        self._find = find

    def __set_name__(self, owner: type, name: str) -> None:
        self.__doc__ = f"`lesionlab.{name}` with this object as its first argument."

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, R]: ...
    def __get__(self, instance: object, owner: type) -> Self | Callable[P, R]:
        return self if instance is None else MethodType(self._find(), instance)
