"""For tests that look at a page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import Page, browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """One for all tests of a file; what it complains of fails the one that has made it complain."""
    with browsing() as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    browser.look(1280, 900)
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []
