"""The list of what the engine `sim` can't run names tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.in_process.not_simulated import REASONS


@pytest.mark.parametrize("name", REASONS)
def test_it_is_there(name):
    file, _, test = name.partition("::")
    assert f"def {test}(" in Path(__file__).with_name(file).read_text()
