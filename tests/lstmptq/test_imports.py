"""No module of the study imports one that imports it, not even for its types."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import lstmptq

ROOT = Path(lstmptq.__file__).parent


def imports(path):
    """Modules of the library that a file names anywhere in an import."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lstmptq."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("lstmptq."))


def test_no_import_runs_in_a_circle():
    graph = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): set(imports(path))
        for path in ROOT.rglob("*.py")
        if "companion" not in path.parts
    }
    assert "lstmptq.quantization.quantizer" in graph["lstmptq.quantization.native"]
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("lstmptq.quantization.native") < order.index("lstmptq.quantization.lstm")
