from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Page, installed, running


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = installed()
    if path is None:
        pytest.skip("no Chromium on this machine: install Debian's `chromium`, or Chrome")
    return path


@pytest.fixture
def page(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with running(chromium, tmp_path_factory.mktemp("profile")) as browser:
        yield browser.page()
