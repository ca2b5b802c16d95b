from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.untrusted import UnreadableError, read_json


def test_json_is_read_as_its_kind() -> None:
    assert read_json(b'{"a": [1, "\xc3\xbc"]}', dict[str, Any]) == {"a": [1, "ü"]}
    assert read_json('"ü"', str) == "ü"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'"4111\xff"', b"[]", b'"4111"', b"[" * 100_000, "\ud800", b'{"a": 1e999}'],
    ids=lambda body: repr(body[:10]),
)
def test_whatever_is_wrong_is_one_error_that_quotes_nothing(body: bytes | str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_json(body, dict[str, Any])
    assert "4111" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_the_error(noise: bytes) -> None:
    try:
        value = read_json(noise, dict[str, Any])
    except UnreadableError:
        return
    assert isinstance(value, dict)
