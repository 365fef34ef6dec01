# SPDX-License-Identifier: BUSL-1.1
"""The rewriting of a parsed template: operations jinja cannot intercept go through filters."""

from __future__ import annotations

from typing import Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from mlos_core.synapse.text.chat.meter import TooCostly

MAX_NODES: Final = 15_000
"""Parts of a template; the largest of known models have 2,500."""

TURN: Final = "-turn"
SIZED: Final = "-sized"
CHECKED: Final = "-checked"
JOINED: Final = "-joined"
"""Names of filters that no template can write."""


def _filter(name: str, node: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _static_length(node: nodes.For) -> int:
    return sum(len(text.data) for text in node.find_all(nodes.TemplateData))


class _Rewriter(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        cost = nodes.Const(1 + _static_length(node), lineno=node.lineno)
        turn = nodes.ExprStmt(_filter(TURN, cost), lineno=node.lineno)
        node.body.insert(0, turn)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(JOINED, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _checked(node.expr)
        for operand in node.ops:
            operand.expr = _checked(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        # A key is hashed, and so is everything inside it.
        self.generic_visit(node)
        node.key = _checked(node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(SIZED, node) if isinstance(node.arg, nodes.Slice) else node


def _checked(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(CHECKED, node)


def rewrite(template: nodes.Template) -> nodes.Template:
    """`template` with payments in it.

    Raises:
        RecursionError: it is nested too deeply.
        TooCostly: it has too many parts; compiling it would take seconds.
    """
    count = sum(1 for _ in template.find_all(nodes.Node))
    if count > MAX_NODES:
        raise TooCostly(f"it has {count} parts, {MAX_NODES} are the limit")
    rewritten: nodes.Template = _Rewriter().visit(template)
    return rewritten
