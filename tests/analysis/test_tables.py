"""Costs as tables and as data."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from test_cost import AT, net

from archc.analysis.cost import count
from archc.analysis.roofline import DEVICES, seconds
from archc.analysis.tables import FORMATS, LEVELS, as_dict, report, scaled


@pytest.fixture(scope="module")
def cost():
    return count(net(), AT)


@pytest.mark.parametrize("per", LEVELS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_form_is_the_same_each_time(cost, per, format):
    text = report(cost, per, format)
    assert text == report(count(net(), AT), per, format)
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_json_has_exact_integers_and_the_breakdown(cost):
    data = json.loads(report(cost, "op", "json"))
    assert (data["params"], data["macs"], data["flops"]) == (5234, 321104, 2 * 321104 + 13322)
    assert all(
        type(data[key]) is int
        for key in ("params", "buffers", "macs", "flops", "weight_bytes", "bytes_moved")
    )
    assert sum(row["macs"] * row["count"] for row in data["breakdown"]) == data["macs"]
    assert sum(row["params"] * row["weight_sets"] for row in data["breakdown"]) == data["params"]
    blocks = data["breakdown"][1]
    assert blocks["receptive_field"] == {"x": {"H": 31, "W": 31}}
    assert [child["name"] for child in blocks["children"]] == ["norm", "fc1", "gelu", "fc2", "add"]
    assert data["activation_bytes"] == {"inference_peak_estimate": 22528, "training": 49376}


def test_detail(cost):
    stage, block, op = ([row["name"] for row in as_dict(cost, per)["breakdown"]] for per in LEVELS)
    assert stage == block == ["stem", "blocks.{0..2}", "head"]
    assert op == ["stem", "blocks.{0..2}", "mean", "head"]
    assert as_dict(cost, "block")["breakdown"][1]["children"] == []


def test_the_text_states_its_conventions(cost):
    text = report(cost)
    assert text.startswith("net   x 3x32x32, batch 1, float32\n")
    for word in (
        "2 x MACs",
        "Convention exact",
        "batch norm (running statistics) 2 per element",
        "fvcore",
        "h100-sxm",
        "bound",
    ):
        assert word in text
    assert all(len(line) <= 200 for line in text.splitlines())
    assert "total" in text and "5,234" in text and "321.1 k" in text


def test_csv_has_a_row_for_each_line(cost):
    rows = list(csv.DictReader(io.StringIO(report(cost, "op", "csv"))))
    assert [row["path"] for row in rows][1:3] == ["blocks.{0..2}", "blocks.{0..2}.norm"]
    assert rows[2]["runs"] == "3" and rows[2]["count"] == "1"
    leaves = [row for row in rows if row["kind"] == "op"]
    assert sum(int(row["macs"]) * int(row["runs"]) for row in leaves) == cost.figures.macs


def test_documents(cost):
    assert report(cost, "stage", "markdown").startswith("| name | what | out |")
    assert report(cost, "stage", "latex").splitlines()[1] == r"net & 0.0\,M & 0.00\,G & 0.00\,G \\"


def test_other_conventions_keep_the_breakdown():
    cost = count(net(), AT, convention="fvcore")
    assert cost.reported == cost.figures.macs + cost.figures.others == 321104 + 3 * 2 * 512
    assert "Convention fvcore" in report(cost)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1500, "1.500 k"), (26.6e6, "26.60 M"), (4.993e9, "4.993 G")]
)
def test_scaled(number, text):
    assert scaled(number) == text


def test_the_roofline_is_bound_by_arithmetic_or_bytes():
    cost = count(net(), AT)
    for name, device in DEVICES.items():
        time = seconds(cost, device)
        arithmetic = 2 * cost.figures.macs / device.matrix["float32"]
        assert time >= max(arithmetic, cost.figures.moved_bytes / device.bandwidth) * (1 - 1e-9), name
        assert seconds(count(net(), AT, "float16"), device) < time


def test_counting_needs_neither_torch_nor_tables():
    code = (
        "import sys, archc.analysis.tables, archc.analysis.cost, archc.analysis.claims, archc.ir.text;"
        "print([m for m in ('torch', 'numpy', 'jinja2', 'rich', 'networkx', 'lark') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
