r"""A pytest plugin: the tests of the contract, for one engine that is not in the registry.

    ANYSOCK_TEST_ENGINE=module:Class python -m pytest -p tests.own_engine \
        tests/contract/in_process/test_streams.py

The engine gets an entry in the registry, for these tests alone, by the name that its class has.
"""

from __future__ import annotations

import importlib
import os

import pytest

from anysock.engines import ENGINES, EngineEntry
from tests import harness

_path = os.environ["ANYSOCK_TEST_ENGINE"]
_module, _, _class = _path.partition(":")
_engine = getattr(importlib.import_module(_module), _class)

ENGINES[_engine.name] = EngineEntry(
    name=_engine.name,
    path=_path,
    when_no_data="",
    clients="",
    idle_cpu="",
    loop=_engine.loop,
    concurrent=_engine.concurrent,
    one_thread=_engine.one_thread,
)


# Before the tests are collected, so that these are the engines that they are run under.
harness.ENGINES = (_engine.name,)
harness.CONCURRENT_ENGINES = harness.ENGINES if _engine.concurrent else ()
harness.SIMULATED = ()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is the same under every engine."""
    chosen = [item for item in items if _engine.name in item.name]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
