"""Servers that many of the tests share."""

from __future__ import annotations

import pytest

from serve.http.acceptance import running


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return running.write_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def server(tmp_path_factory, root):
    """A server with all bundles and keys, and a short timeout for slow clients."""
    with running.serve(
        tmp_path_factory.mktemp("server"), root, "--watch-s", "0", "--idle-timeout-s", "1"
    ) as one:
        yield one


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A server that tests can block, with room for eight rows and three adapters."""
    root = running.write_all(tmp_path_factory.mktemp("others"))
    flags = "--watch-s", "0", "--max-queue", "8", "--max-adapters", "3"
    with running.serve(tmp_path_factory.mktemp("small"), root, *flags, hung_after=PATIENT) as one:
        yield one


PATIENT = 600.0
