"""The state dict of a deploy build, computed in float64 from that of the network as it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.deploy.fold import Deployed
from archc.deploy.rewrite import Mixed, Recipe, Shifted, Vector
from archc.deploy.roles import Weighted
from archc.deploy.terms import value
from archc.weights.keys import state_dict


def folded(deployed: Deployed, trained: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the deploy build, by key, in the element types of `trained`.

    Raises KeyError where `trained` lacks a tensor.
    """
    import torch

    wanted = state_dict(deployed.program)
    usual = next((tensor.dtype for tensor in trained.values() if tensor.is_floating_point()), torch.float32)
    made = {}
    for key, weight in wanted.items():
        if key in deployed.recipes:
            dtype = trained[key].dtype if key in trained else usual
            made[key] = tensor(deployed.recipes[key], trained, weight.shape).to(dtype)
        else:
            made[key] = trained[key]
    return made


def tensor(recipe: Recipe, trained: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """What a recipe makes, in float64, of a shape."""
    import torch

    match recipe:
        case Vector(term):
            return torch.as_tensor(value(term, trained), dtype=torch.float64).expand(shape).clone()
        case Mixed(key, role, before, behind):
            weight = _grouped(trained[key].double(), role)
            weight = weight * _along(value(behind, trained), role, role.out, weight)
            if role.inner is not None:
                weight = weight * _along(value(before, trained), role, role.inner, weight)
            return weight.reshape(shape)
        case Shifted(key, weight_key, role, before, behind, shift):
            bias: Any = 0.0 if key is None else trained[key].double()
            moved = value(before, trained)
            if torch.is_tensor(moved) or moved:
                weight = _grouped(trained[weight_key].double(), role)
                assert role.inner is not None
                product = weight * _along(moved, role, role.inner, weight)
                # What is left is one number for each channel of the result: axis 0 or 1 within a group.
                kept = 1 + role.out
                bias = bias + product.sum([axis for axis in range(1, product.ndim) if axis != kept]).flatten()
            made = value(behind, trained) * bias + value(shift, trained)
            return torch.as_tensor(made, dtype=torch.float64).expand(shape).clone()
    raise AssertionError(recipe)


def _grouped(weight: Any, role: Weighted) -> Any:
    """The weight with its groups as an axis of their own, in front."""
    return weight.unflatten(0, (role.groups, -1))


def _along(vector: Any, role: Weighted, axis: int, weight: Any) -> Any:
    """A number, or one for each channel, such that it meets an axis of a weight with its groups in front."""
    import torch

    if not torch.is_tensor(vector) or vector.ndim == 0:
        return vector
    shape = [1] * weight.ndim
    shape[0], shape[1 + axis] = role.groups, -1
    return vector.reshape(shape)
