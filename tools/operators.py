#!/usr/bin/env python3
"""Writes docs/operators.md: the operators of the trainable twin, judged by ONNX's own node tests.

python tools/operators.py [--out docs/operators.md]
"""

import argparse
from collections import Counter
from pathlib import Path

import onnx

from hwprune.graph import elementwise, layers, movement, recurrent, reduction  # noqa: F401 (rules)
from hwprune.graph.flow import RULES
from hwprune.graph.fold import INLINED
from hwprune.network.operators import supported_ops
from hwprune.testing.node_suite import Outcome, ask, in_scope, node_tests

HEAD = """# Operators

Made by `python tools/operators.py` with onnx {version}. Each operator of the trainable twin is
judged by the node tests that ship inside the `onnx` package. In scope are tests whose operators are
all in this table and whose inputs and outputs are fp32, int32, int64 or bool; of {all} node tests
{scope} are in scope, and **{passed} pass**. The others are refused with a message ({refused});
{wrong} give a wrong answer. "channels" says whether channels can be pruned through the operator (an
operator without a rule freezes what it reads, and says so).

Standard functions (`{inlined}`) are
replaced by what they consist of; one that onnx cannot inline is left to onnxruntime.

| operator | node tests passed | in scope | channels |
|---|--:|--:|---|
"""


def main() -> None:
    out = _options().out
    outcomes = [ask(case) for case in in_scope()]
    wrong = [o for o in outcomes if o.wrong]
    for outcome in wrong:
        print(f"WRONG {outcome.name}: {outcome.wrong}")
    for outcome in outcomes:
        if outcome.refused:
            print(f"refused {outcome.name}: {outcome.refused}")
    passed = sum(o.passed for o in outcomes)
    head = HEAD.format(
        version=onnx.__version__,
        all=len(node_tests()),
        scope=len(outcomes),
        passed=passed,
        refused=len(outcomes) - passed - len(wrong),
        wrong=len(wrong),
        inlined="`, `".join(sorted(INLINED)),
    )
    out.write_text(head + "\n".join(rows(outcomes)) + "\n" + refusals(outcomes))
    print(f"{passed} of {len(outcomes)} in scope pass, {len(wrong)} wrong; of {len(node_tests())}")


def rows(outcomes: list[Outcome]) -> list[str]:
    passed = Counter(op for o in outcomes if o.passed for op in o.ops)
    total = Counter(op for o in outcomes for op in o.ops)
    passing = RULES.keys() | set(INLINED)
    return [
        f"| `{op}` | {passed[op]} | {total[op]} | {'pass' if op in passing else 'frozen'} |"
        for op in sorted(supported_ops().union(INLINED))
    ]


def refusals(outcomes: list[Outcome]) -> str:
    lines = [f"- `{o.name}`: {o.refused}" for o in outcomes if o.refused]
    return "\n## Refused\n\n" + "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "docs" / "operators.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
