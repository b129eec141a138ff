"""The graph as networkx sees it, and as text."""

from __future__ import annotations

import networkx
from by_hand import Builder, tensor
from test_cost import ADD, net

from archc.ir.dataflow import dataflow, dead
from archc.ir.graph import Apply
from archc.ir.text import print_program
from archc.ops.pointwise import Gelu, Relu

MAP = tensor(B="B", C=8, H="H", W="W")


def residual() -> Builder:
    b = Builder("residual", MAP)
    y = b.apply(Gelu(), b.inputs[0])
    b.apply(Relu(), b.apply(Relu(), y))
    b.result = b.apply(ADD(), b.inputs[0], y)
    return b


def test_values_and_statements_are_nodes():
    b = residual()
    graph = dataflow(b.template(b.result))
    statements = [n for n in graph if n[0] == "statement"]
    assert len(statements) == 4
    assert networkx.is_directed_acyclic_graph(graph)
    last = ("statement", 3)
    assert sorted(data["operand"] for _, _, data in graph.in_edges(last, data=True)) == [0, 1]
    assert graph.nodes["value", b.result.uid]["output"] == 0


def test_what_reaches_no_result_is_dead():
    b = residual()
    found = dead(b.template(b.result))
    assert [s.op.name for s in found if isinstance(s, Apply)] == ["relu", "relu"]


def test_the_turns_of_a_loop_are_a_chain():
    root = net().root
    graph = dataflow(root)
    assert dead(root) == ()
    path = networkx.shortest_path(graph, ("value", root.inputs[0].uid), ("value", root.outputs[0].uid))
    assert sum(node[0] == "statement" for node in path) == 6


def test_the_text_is_the_same_however_values_are_numbered():
    text = print_program(net())
    assert text == print_program(net())
    assert text.startswith("program net of net  # test.arch:1\n")
    assert (
        "  %4: [B, C=8, H=ceil(H / 4), W=ceil(W / 4)] = conv(%3, out=8, kernel=1, pad=0, on=[H, W]) with fc2"
        in text
    )
    assert (
        "    %9: [B, C=8, H=ceil(H / 4), W=ceil(W / 4)] = layer#0(%8) with blocks.1  # test.arch:1\n" in text
    )
    assert text.count("block layer#0") == 1
