"""What the modules of a generated file register: its classes and functions, evaluated (`archc.backend.evaluator`)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from archc.backend.evaluator import BUILTINS, Bound, Dotted, Evaluator, Function, RereadError, Unread
from archc.backend.torch_shapes import MODULES, RESERVED, Body, Module, Refused, Tensor, module, tensor
from archc.records import dataclass


@dataclass(frozen=True, eq=False)
class Class:
    """A class of the file that inherits from nn.Module alone, or from a module of torch with a `forward` of its own."""

    node: ast.ClassDef
    methods: dict[str, ast.FunctionDef]
    constants: dict[str, Any]
    base: str = "Module"

    @cached_property
    def kept(self) -> dict[str, str]:
        """Parameters of the constructor that it does nothing with but keep, by the attributes that hold them."""
        init = self.methods.get("__init__")
        if init is None:
            return {}
        names, found = Counter[str](), dict[str, str]()
        for node in ast.walk(init):
            match node:
                case ast.Name(id="self", ctx=ast.Store()):
                    return {}
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    names[name] += 1
        for statement in init.body:
            match statement:
                case ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id="self"), attr=attribute)], value=ast.Name(id=name)
                ):
                    # Declared, assigned and kept: where one word serves for both, it is there once more.
                    if names[name] == (3 if name == attribute else 2) and names[attribute] in (1, 3):
                        found[name] = attribute
        first, *others = [x.arg for x in init.args.args] or [""]
        return {name: attribute for name, attribute in found.items() if first == "self" and name in others}

    @cached_property
    def places(self) -> list[str]:
        """Parameters of the constructor in their order, `self` left out."""
        init = self.methods.get("__init__")
        return [x.arg for x in init.args.args[1:]] if init is not None else []

    def sorted_out(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """The numbers and strings that are only kept, by attribute, and all arguments with their kinds in place of them."""
        given = [*zip([*self.places, *[""] * len(args)], args, strict=False), *keywords.items()]
        kept, others = {}, []
        for name, value in given:
            if name in self.kept and isinstance(value, (int, float, str)):
                kept[self.kept[name]] = value
                others.append((name, "kept", type(value).__name__))
            else:
                others.append((name, value))
        return kept, others


# With one of these of its own, a class would register otherwise than nn.Module does.
_FORBIDDEN = (RESERVED - {"forward", "extra_repr"}) | frozenset(
    "__new__ __setattr__ __getattr__ __getattribute__ __delattr__ __init_subclass__ __dict__ __call__ _apply "
    "_save_to_state_dict _load_from_state_dict _register_state_dict_hook _named_members".split()
)


class Modules(Evaluator):
    """The names of a file, and what its constructors make."""

    def __init__(self, text: str) -> None:
        super().__init__()
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RereadError(f"this is no Python: {error}", getattr(error, "lineno", 0) or 0) from None
        self.made: dict[Any, Body] = {}
        for statement in tree.body:
            self._define(statement)

    # ---- the file

    def _define(self, node: ast.stmt) -> None:
        match node:
            case ast.Import(names=names):
                for one in names:
                    path = one.name if one.asname else one.name.split(".")[0]
                    self._name(one.asname or path, Dotted(path), node)
            case ast.ImportFrom(module=source, names=names):
                for one in names:
                    self._name(one.asname or one.name, Dotted(f"{source}.{one.name}"), node)
            case ast.FunctionDef(name=name):
                self._name(name, Unread(node.lineno) if node.decorator_list else Function(node), node)
            case ast.ClassDef(name=name):
                self._name(name, self._class(node), node)
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                self._name(name, value, node)
            case _:
                for name in _bound_names(node):
                    self._name(name, Unread(node.lineno), node)

    def _name(self, name: str, value: Any, node: ast.stmt) -> None:
        if name in self.names or name in BUILTINS or name == "super":
            value = Unread(node.lineno)  # one of two definitions
        self.names[name] = value

    def _class(self, node: ast.ClassDef) -> Class | Unread:
        bases = [ast.unparse(base) for base in node.bases]
        made = Class(node, {}, {}, bases[0].removeprefix("nn.") if len(bases) == 1 else "")
        plain = bases == [f"nn.{made.base}"] and (made.base == "Module" or made.base in MODULES)
        plain = plain and self.names.get("nn") == Dotted("torch.nn") and not node.keywords and not node.decorator_list
        for item in node.body:
            match item:
                case ast.FunctionDef(name=name):
                    plain = plain and name not in _FORBIDDEN and name not in made.methods
                    made.methods[name] = item
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                    made.constants[name] = value
                case ast.AnnAssign(value=None) | ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case _:
                    plain = False
        if made.base != "Module":  # what torch's own constructor calls is left as it is
            plain = plain and not made.constants and set(made.methods) <= {"forward", "extra_repr"}
        return made if plain else Unread(node.lineno)

    # ---- calls

    def invoke(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        match function:
            case Class():
                return self._construct(function, args, keywords)
            case Dotted(path):
                return self._library(path, args, keywords)
            case Bound(Module() as owner, name):
                return self._method(owner, name, args, keywords)
        return super().invoke(function, args, keywords)

    def _construct(self, cls: Class, args: Sequence[Any], keywords: Mapping[str, Any]) -> Module:
        """A module of a class of the file; equal arguments make equal modules, which are evaluated once."""
        if cls.base != "Module":
            return self._library(f"torch.nn.{cls.base}", args, keywords)
        kept, others = cls.sorted_out(args, keywords)
        key = _key((cls.node.name, others))
        if key is not None and key in self.made:
            return Module(self.made[key].keeping(kept))
        made = Module(Body(cls.node.name, attributes=dict(cls.constants)), ready=False)
        if "__init__" not in cls.methods:
            made.ready = True
        else:
            self.run(cls.methods["__init__"], [made, *args], keywords)
        if not made.ready:
            raise RereadError("the constructor never calls super().__init__()", cls.node.lineno)
        made.body.sealed = True
        if key is not None and key == _key((cls.node.name, cls.sorted_out(args, keywords)[1])):
            self.made[key] = made.body
        return made

    def _library(self, path: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        area, _, name = path.rpartition(".")
        try:
            match area, name:
                case "torch.nn", "Parameter":
                    return self._parameter(args, keywords)
                case "torch.nn", "ModuleList" if len(args) <= 1 and not keywords:
                    return self._list(name, self.items(args[0]) if args else ())
                case "torch.nn", "Sequential" if not keywords:
                    return self._list(name, args)
                case "torch.nn", _:
                    return module(name, args, keywords)
                case "torch.nn.init", _ if name.endswith("_") and args and isinstance(args[0], Tensor):
                    return args[0]
                case "torch", _:
                    return tensor(name, args, keywords)
        except Refused as error:
            raise self.error(str(error)) from None
        except (KeyError, TypeError, ValueError, ArithmeticError):
            pass
        raise self.error(f"what {path} makes of this is not known here")

    def _parameter(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        fresh = len(args) == 1 and isinstance(args[0], Tensor) and args[0].owner is None
        if not fresh or set(keywords) - {"requires_grad"}:
            raise self.error("nn.Parameter takes one new tensor")
        return Tensor(args[0].shape, True)

    def _list(self, kind: str, items: Sequence[Any]) -> Module:
        made = Module(Body(kind))
        for item in items:
            self._append(made, item)
        return made

    def _append(self, many: Module, item: Any) -> None:
        if not isinstance(item, Module):
            raise self.error("a list of modules takes modules")
        self.set_attribute(many, str(len(many.body.children)), item)

    def _method(self, owner: Module, name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if owner.body.kind == "ModuleList" and name == "append" and len(args) == 1:
            return self._append(owner, args[0])
        if name == "register_buffer":
            return self._register_buffer(owner, *args, **keywords)
        cls = self.names.get(owner.body.kind)
        if isinstance(cls, Class) and name in cls.methods and name != "__init__":
            return _harmless(cls.methods[name])
        raise self.error(f"what `{name}` of a module does is not known here")

    def _register_buffer(self, owner: Module, name: Any, tensor: Any, persistent: Any = True) -> None:
        fresh = isinstance(tensor, Tensor) and not tensor.is_parameter
        if not fresh or not isinstance(name, str) or not isinstance(persistent, bool):
            raise self.error("register_buffer takes a name and a new tensor")
        self._claim(owner, name, tensor)
        owner.body.buffers[name] = (tensor, persistent)

    # ---- modules

    def start(self, owner: Any) -> None:
        if not isinstance(owner, Module) or owner.ready:
            super().start(owner)
        owner.ready = True

    def attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Module):
            body = owner.body
            for held in (body.attributes, body.parameters, body.children):
                if name in held:
                    return held[name]
            return body.buffers[name][0] if name in body.buffers else Bound(owner, name)
        if isinstance(owner, Tensor) and name == "shape":
            return owner.shape
        return super().attribute(owner, name)

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """`owner.name = value`, as nn.Module takes it."""
        if not isinstance(owner, Module):
            return super().set_attribute(owner, name, value)
        body = owner.body
        if isinstance(value, Module):
            self._claim(owner, name, value)
            body.children[name] = value
        elif isinstance(value, Tensor) and value.is_parameter:
            self._claim(owner, name, value)
            body.parameters[name] = value
        elif isinstance(value, Tensor) or body.sealed or not owner.ready:
            raise self.error(f"`{name}` is a tensor that is not registered, or is set from outside of its module")
        elif any(name in held for held in (body.parameters, body.buffers, body.children)):
            raise self.error(f"`{name}` is taken away again")
        else:
            body.attributes[name] = value

    def _claim(self, owner: Module, name: str, value: Module | Tensor) -> None:
        body, cls = owner.body, self.names.get(owner.body.kind)
        if body.sealed or not owner.ready:
            raise self.error(f"`{name}` is registered before super().__init__(), or from outside of its module")
        if name in RESERVED or (isinstance(cls, Class) and name in cls.methods):
            raise self.error(f"`{name}` is a method, which hides what is registered under it")
        if value.owner is not None:
            raise self.error(f"`{name}` is registered as `{value.owner}` already")
        held = (body.parameters, body.buffers, body.children, body.attributes)
        if "." in name or not name or any(name in names for names in held):
            raise self.error(f"`{name}` is taken already, or no name")
        value.owner = name

    def parts(self, owner: Any) -> Sequence[Any]:
        if isinstance(owner, Module) and owner.body.kind in ("ModuleList", "Sequential"):
            return list(owner.body.children.values())
        return super().parts(owner)

    def kind(self, value: Any) -> str:
        return f"`{value.body.kind}`" if isinstance(value, Module) else super().kind(value)


_QUIET = (ast.For, ast.If, ast.Pass, ast.expr, ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)


def _harmless(method: ast.FunctionDef) -> None:
    """A method that fills weights in place leaves names and shapes alone: that is all it may do."""
    for statement in method.body:
        for node in ast.walk(statement):
            match node:
                case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name()]):
                    pass
                case ast.Expr(value=ast.Call(func=function)) if ast.unparse(function).startswith("nn.init."):
                    pass
                case ast.keyword() | ast.comprehension():
                    pass
                case _ if not isinstance(node, _QUIET):
                    line = getattr(node, "lineno", method.lineno)
                    raise RereadError(f"`{method.name}` does more than fill weights", line)
                case _:
                    pass


def _bound_names(node: ast.stmt) -> list[str]:
    """The names that a statement may bind, wherever in it."""
    names = []
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.alias(name=name, asname=asname):
                names.append(asname or name.split(".")[0])
            case _:
                pass
    return names


def _key(value: Any) -> Any:
    """A key under which equal arguments are found again; None where they are more than numbers and strings."""
    if value is None or isinstance(value, (int, float, str)):
        return (type(value), value)
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        keys = [_key(item) for item in value]
        return None if None in keys else (type(value), *keys)
    return None
