from __future__ import annotations

from typing import Any

import pytest

from infra.cache import BATCH, ENTRIES
from lambdas.check.handler import EMBED_SECONDS, TABLE_SECONDS
from tests.infra.assembly import Assembly, listed, text


def statements(assembly: Assembly, function: str) -> list[dict[str, Any]]:
    """What a function may do with the cache's table."""
    return [
        statement
        for name, statement in assembly.statements()
        if name.startswith(f"{function}Role") and "CacheAnswers" in text(statement["Resource"])
    ]


def test_answers_are_encrypted_expire_and_are_paid_by_request(assembly: Assembly) -> None:
    table = assembly.one("AWS::DynamoDB::Table", "Cache")

    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSESpecification"]["SSEType"] == "KMS"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert [k["AttributeName"] for k in table["KeySchema"]] == ["pk", "sk"]


def test_chat_writes_answers_and_cannot_write_the_record_of_hits(assembly: Assembly) -> None:
    writes = [
        statement
        for statement in statements(assembly, "Chat")
        if "dynamodb:PutItem" in listed(statement["Action"])
    ]

    assert len(writes) == 1
    condition = writes[0]["Condition"]["ForAllValues:StringLike"]
    assert tuple(condition["dynamodb:LeadingKeys"]) == ENTRIES
    assert not any("DeleteItem" in text(s["Action"]) for s in statements(assembly, "Chat"))


def test_check_reads_and_writes_the_record_and_no_answer(assembly: Assembly) -> None:
    (statement,) = statements(assembly, "Check")

    condition = statement["Condition"]["ForAllValues:StringLike"]
    assert condition["dynamodb:LeadingKeys"] == ["state#*", "checked#*"]


@pytest.mark.parametrize("function", ["Authorize", "Shadow", "Keep", "Promote"])
def test_nobody_else_reads_answers(assembly: Assembly, function: str) -> None:
    assert not statements(assembly, function)


def test_a_batch_of_checks_fits_the_functions_time(assembly: Assembly) -> None:
    """Each may take the chat's deadline, an embedding and five looks into the table."""
    check = assembly.functions()["check"]
    deadline = float(check["Environment"]["Variables"]["DROPFORGE_DEADLINE_SECONDS"])

    assert BATCH * (deadline + EMBED_SECONDS + 5 * TABLE_SECONDS) < check["Timeout"]
