"""The arena that voices share, and the model by which it is told to shrink."""

from __future__ import annotations

import os
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import ROOT
from tts.arena import SMALLEST_MODEL, shrink

pytestmark = pytest.mark.unit


def test_the_smallest_model_gives_back_the_nothing_it_is_given() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [0]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert onnx.load_from_string(SMALLEST_MODEL) == made
    shrink()


def test_a_replica_does_not_import_onnx() -> None:
    """It takes 12 MB; the process that splits a voice does, and ends."""
    code = "import sys, tts.service; sys.exit('onnx' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
