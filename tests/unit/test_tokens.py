from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from dropforge.backends.tokens import ACTIVE, REVOKED, UNFINISHED, Plans, TokenError, Tokens, Wish
from dropforge.serve.budget import NANO, budget_key, month
from dropforge.serve.tokens import TOKEN, new_token, principal, principal_key, token_id, token_key
from tests.support.gateway import Gateway
from tests.support.memory_aws import memory_aws
from tests.support.tables import create_table

NOW = 1_795_435_200.0
WISH = Wish(projects=("shop",), name="storefront")
ROLE = "arn:aws:iam::123456789012:role/web"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with memory_aws():
        create_table("registry")
        yield Gateway()


@pytest.fixture
def plans(gateway: Gateway) -> Plans:
    ids = {name: f"plan-{name}" for name in ("standard", "gold")}
    gateway.plans = {plan: [] for plan in ids.values()}
    return Plans("api", "prod", ids)


@pytest.fixture
def tokens(plans: Plans, gateway: Gateway) -> Tokens:
    return Tokens("registry", plans, gateway=gateway)


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = boto3.resource("dynamodb").Table("registry").scan()["Items"]
    return found


def credential(token: str) -> dict[str, Any] | None:
    pk, sk = token_key(token)
    found = boto3.resource("dynamodb").Table("registry").get_item(Key={"pk": pk, "sk": sk})
    return found.get("Item")


def only(tokens: Tokens, at: float = NOW) -> Any:
    (one,) = tokens.list(at)
    return one


# --- how they are written


def test_token_begins_with_its_public_id_and_hides_256_bits() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        found = TOKEN.fullmatch(token)
        assert found
        assert token_id(token) == token_id(found[1]) == found[1]
        assert len(token.removeprefix(f"{found[1]}-")) * 6 >= 256


@pytest.mark.parametrize("text", ["", "df-", "df-none", "sk-abc", "df-ABCDEFGHIJ", "df-abcdefghi1"])
def test_other_texts_have_no_id(text: str) -> None:
    assert token_id(text) is None


@given(st.text())
def test_any_text_has_a_key(text: str) -> None:
    pk, sk = token_key(text)
    assert (len(pk), sk) == (len("token#") + 64, "token")


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:sts::123456789012:assumed-role/web/i-0abc", ROLE),
        ("arn:aws:iam::123456789012:role/web", ROLE),
        ("arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/web", ROLE),
        (
            "arn:aws-cn:sts::123456789012:assumed-role/web/a@b.example",
            "arn:aws-cn:iam::123456789012:role/web",
        ),
        ("arn:aws:iam::123456789012:user/team/ann", "arn:aws:iam::123456789012:user/team/ann"),
        ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
    ],
)
def test_sessions_of_a_role_are_one_principal(arn: str, expected: str) -> None:
    assert principal(arn) == expected
    assert principal_key(arn) == principal_key(expected)


# --- made


def test_secret_is_stored_as_a_hash_alone(tokens: Tokens) -> None:
    name, token = tokens.create(WISH, NOW)
    assert token.removeprefix(f"{name}-") not in str(rows())
    found = credential(token)
    assert found
    assert found["pk"] == f"token#{hashlib.sha256(token.encode()).hexdigest()}"
    assert (found["token_id"], found["projects"], found["name"]) == (name, ["shop"], "storefront")


def test_token_has_a_key_of_its_own_in_its_plan(
    tokens: Tokens, gateway: Gateway, plans: Plans
) -> None:
    name, token = tokens.create(Wish(projects=("shop",), name="x", plan="gold"), NOW)
    assert gateway.names_in("plan-gold") == [f"dropforge-{name}"]
    (key,) = gateway.keys.values()
    assert (credential(token) or {})["key"] == key["value"]
    assert len(key["value"]) >= 20


def test_unknown_plan_is_refused_before_anything_is_written(tokens: Tokens) -> None:
    with pytest.raises(TokenError, match="'silver'; there are: gold, standard"):
        tokens.create(Wish(projects=("shop",), name="x", plan="silver"), NOW)
    assert rows() == []


def test_plan_may_be_left_out_where_there_is_one_and_where_there_is_none(
    gateway: Gateway,
) -> None:
    gateway.plans = {"plan-team": []}
    Tokens("registry", Plans("api", "prod", {"team": "plan-team"}), gateway=gateway).create(
        WISH, NOW
    )
    assert only(Tokens("registry")).plan == "team"
    _, token = Tokens("registry").create(WISH, NOW + 1)
    assert (credential(token) or {})["key"] == ""


def test_half_made_token_lets_nobody_in_and_can_be_cleaned(
    tokens: Tokens, gateway: Gateway, plans: Plans
) -> None:
    def crash(_: Any) -> bool:
        raise KeyboardInterrupt

    tokens._all = crash  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        tokens.create(WISH, NOW)
    again = Tokens("registry", plans, gateway=gateway)
    assert only(again).state == UNFINISHED
    assert [row["pk"] for row in rows()] == ["tokens"]
    assert len(gateway.names_in("plan-standard")) == 1
    with pytest.raises(TokenError, match="does not work"):
        again.rotate(only(again).id, NOW, grace=0)
    again.revoke(only(again).id, NOW)
    assert only(again).state == REVOKED
    assert gateway.names_in("plan-standard") == []


def test_principal_has_an_item_and_no_secret(tokens: Tokens) -> None:
    session = "arn:aws:sts::123456789012:assumed-role/web/i-1"
    name, secret = tokens.create(Wish(projects=("shop",), name="x", principal=session), NOW)
    pk, sk = principal_key(ROLE)
    item = next(row for row in rows() if row["pk"] == pk)
    assert (secret, item["sk"], item["token_id"]) == ("", sk, name)
    with pytest.raises(TokenError, match="no secret to rotate"):
        tokens.rotate(name, NOW, grace=0)
    with pytest.raises(TokenError, match="has access already"):
        tokens.create(Wish(projects=("other",), name="y", principal=ROLE), NOW)
    tokens.revoke(name, NOW)
    assert all(row["pk"] != pk for row in rows())
    tokens.create(Wish(projects=("other",), name="y", principal=ROLE), NOW)


# --- listed


def test_list_tells_all_but_secrets(tokens: Tokens) -> None:
    wish = Wish(("shop", "bank"), "storefront", "gold", 5.0, int(NOW) + 100)
    name, token = tokens.create(wish, NOW)
    pk, sk = budget_key(name, month(NOW))
    boto3.resource("dynamodb").Table("registry").put_item(
        Item={"pk": pk, "sk": sk, "used_nano": 3 * NANO, "held_1": NANO}
    )
    one = only(tokens)
    assert (one.id, one.name, one.projects, one.plan) == (
        name, "storefront", ("shop", "bank"), "gold",
    )  # fmt: skip
    assert (one.budget_usd, one.spent_usd, one.ends_at) == (5.0, 2.0, NOW + 100)
    assert one.state == ACTIVE
    assert token not in str(one)
    assert only(tokens, NOW + 100).state == "expired"
    assert only(tokens, NOW + 40 * 86400).spent_usd == 0.0


def test_list_is_complete_and_in_the_order_of_making(tokens: Tokens) -> None:
    made = [tokens.create(WISH, NOW - at)[0] for at in range(5)]
    assert [one.id for one in tokens.list(NOW)] == made[::-1]


# --- rotated


def test_rotated_token_keeps_all_but_its_secret(
    tokens: Tokens, gateway: Gateway, plans: Plans
) -> None:
    wish = Wish(("shop",), "storefront", None, 5.0, int(NOW) + 10**6)
    name, old = tokens.create(wish, NOW)
    new = tokens.rotate(name, NOW + 10, grace=3600)
    assert token_id(new) == name
    assert new != old
    before, after = credential(old), credential(new)
    assert before
    assert after
    assert before["expires_at"] == NOW + 10 + 3600
    assert after["expires_at"] == NOW + 10**6
    changes = ("pk", "expires_at")
    assert {k: v for k, v in before.items() if k not in changes} == {
        k: v for k, v in after.items() if k not in changes
    }
    assert len(gateway.names_in("plan-standard")) == 1
    assert (only(tokens).rotated_at, only(tokens).old_until) == (NOW + 10, NOW + 3610)
    assert only(tokens, NOW + 3610).old_until == 0


def test_without_grace_the_old_secret_is_gone(tokens: Tokens) -> None:
    name, old = tokens.create(WISH, NOW)
    new = tokens.rotate(name, NOW, grace=0)
    assert credential(old) is None
    assert credential(new)


def test_only_the_secret_before_has_a_grace(tokens: Tokens) -> None:
    name, first = tokens.create(WISH, NOW)
    second = tokens.rotate(name, NOW, grace=3600)
    third = tokens.rotate(name, NOW + 1, grace=3600)
    assert [bool(credential(token)) for token in (first, second, third)] == [False, True, True]


def test_grace_ends_with_the_token(tokens: Tokens) -> None:
    name, old = tokens.create(Wish(("shop",), "x", ends_at=int(NOW) + 100), NOW)
    tokens.rotate(name, NOW, grace=3600)
    assert (credential(old) or {})["expires_at"] == NOW + 100


def test_expired_and_revoked_tokens_get_no_new_secret(tokens: Tokens) -> None:
    name, _ = tokens.create(Wish(("shop",), "x", ends_at=int(NOW) + 100), NOW)
    with pytest.raises(TokenError, match="does not work any more"):
        tokens.rotate(name, NOW + 100, grace=0)
    other, _ = tokens.create(WISH, NOW)
    tokens.revoke(other, NOW)
    with pytest.raises(TokenError, match="does not work any more"):
        tokens.rotate(other, NOW, grace=0)


def test_of_two_rotations_at_once_one_secret_is_current(
    tokens: Tokens, gateway: Gateway, plans: Plans
) -> None:
    """Both have read the token before either writes. On AWS, one transaction fails the other."""
    first = Tokens("registry", plans, gateway=gateway)
    made: list[str] = []

    class Late(Tokens):
        def _all(self, writes: Any) -> bool:
            made.append(first.rotate(name, NOW, grace=0))
            return super()._all(writes)

    name, _ = tokens.create(WISH, NOW)
    with pytest.raises(TokenError, match="somebody else"):
        Late("registry", plans, gateway=gateway).rotate(name, NOW, grace=0)
    assert sum(row["pk"].startswith("token#") for row in rows()) == 1
    assert credential(made[0]) is not None


# --- revoked


@pytest.mark.parametrize("by", [0, 1], ids=["its id", "the token"])
def test_revoked_token_is_gone_with_its_key_and_its_old_secret(
    tokens: Tokens, gateway: Gateway, plans: Plans, by: int
) -> None:
    made = tokens.create(WISH, NOW)
    new = tokens.rotate(made[0], NOW, grace=3600)
    tokens.revoke(made[by], NOW)
    assert credential(made[1]) is credential(new) is None
    assert gateway.names_in("plan-standard") == []
    assert gateway.keys == {}
    assert only(tokens).state == REVOKED


def test_other_tokens_keys_stay(tokens: Tokens, gateway: Gateway) -> None:
    first, _ = tokens.create(WISH, NOW)
    gateway.create_api_key(name=f"dropforge-{first}-of-somebody", enabled=True, value="x" * 30)
    tokens.revoke(first, NOW)
    assert len(gateway.keys) == 1


def test_revoking_again_deletes_a_key_that_was_left(tokens: Tokens, gateway: Gateway) -> None:
    name, token = tokens.create(WISH, NOW)
    gateway.denies = {"DeleteApiKey"}
    with pytest.raises(ClientError):
        tokens.revoke(name, NOW)
    assert credential(token) is None
    gateway.denies = set()
    tokens.revoke(name, NOW)
    assert gateway.keys == {}


@pytest.mark.parametrize(
    "name", ["df-none", "df-abcdefghij", f"df-abcdefghij-{'A' * 43}", "storefront"]
)
def test_unknown_token_is_named_as_such(tokens: Tokens, name: str) -> None:
    with pytest.raises(TokenError, match="no such token"):
        tokens.revoke(name, NOW)


def test_memory_of_the_authorizer_is_emptied_where_it_can_be(
    tokens: Tokens, gateway: Gateway
) -> None:
    assert tokens.forget_answers()
    assert gateway.flushed == [("api", "prod")]
    gateway.denies = {"FlushStageAuthorizersCache"}
    assert not tokens.forget_answers()
    assert not Tokens("registry").forget_answers()
