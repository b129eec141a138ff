"""Every region by the name it has in the language, and what the operators make of two."""

from __future__ import annotations

from typing import Any

from archc.where.base import Form, Places, Region
from archc.where.blocks import Grid, Window
from archc.where.compose import Difference, Union, difference
from archc.where.halo import Halo
from archc.where.lines import Column, Everywhere, Row, Self
from archc.where.neighborhood import Neighborhood
from archc.where.picked import Picked, Restricted
from archc.where.product import Product
from archc.where.shifted import Shifted

REGIONS: dict[str, type[Region]] = {
    region.name: region for region in (Self, Everywhere, Row, Column, Window, Grid, Halo, Neighborhood, Shifted, Picked)
}
# Regions that stand as they are, without a call.
REGION_NAMES = ("self", "everywhere", "row", "column")


def combine_regions(op: str, left: Region, right: Any) -> Region | None:
    """`left op right` for two regions, or a region and a mask (`&`); None for other operators."""
    match op, right:
        case "+", Region():
            return Union(left, right)
        case "-", Region():
            return difference(left, right)
        case "*", Region():
            return Product(left, right)
        case "&", _ if not isinstance(right, Region):
            return Restricted(left, right)
        case _:
            return None


__all__ = ["REGIONS", "REGION_NAMES", "Difference", "Form", "Places", "Region", "combine_regions"]
