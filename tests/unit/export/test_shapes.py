"""Every shape that is recognised, as its product writes it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from dropforge.export import Conversation, Reason, Rejected, Row, Turn, read
from dropforge.project.data import Columns, Roles
from tests.unit.export.seeds import FRESHDESK, HELPDESKS, HUBSPOT, INTERCOM, ZENDESK


def rows(data: Any, columns: Columns | None = None, roles: Roles | None = None) -> list[Row]:
    text = data if isinstance(data, str) else json.dumps(data)
    return list(read(io.BytesIO(text.encode()), columns, roles))


def one(data: Any, columns: Columns | None = None, roles: Roles | None = None) -> Conversation:
    (row,) = rows(data, columns, roles)
    assert isinstance(row, Conversation), row
    return row


def said(*texts: str) -> tuple[Turn, ...]:
    """Turns of the customer and the agent by turns."""
    return tuple(Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def test_zendesk_ticket_in_time_order_without_internal_comments() -> None:
    found = one(ZENDESK)
    assert found.turns == said("Printer on fire\n\nIt burns, what now?", "Use water.")
    assert (found.id, found.customer) == ("35436", "jo@x.example")
    assert found.names == ("Jo Doe", "Ana Lee")
    assert found.topic == "hardware"


def test_zendesk_ticket_beside_its_comments_and_without_requester() -> None:
    ticket = {"id": 1, "subject": "It burns", "tags": []}
    comments = [{"author_id": 4, "body": "It burns."}, {"author_id": 7, "body": "Use water."}]
    found = one({"ticket": ticket, "comments": comments})
    assert (found.turns, found.customer) == (said("It burns.", "Use water."), "4")


def test_zendesk_ticket_with_private_comments_only_has_its_description() -> None:
    comments = [{"author_id": 7, "public": False, "body": "Secret."}]
    found = one({**ZENDESK, "comments": comments, "subject": "burns"})
    assert found.turns == said("It burns, what now?")


def test_intercom_conversation_without_notes() -> None:
    found = one(INTERCOM)
    texts = ("<p>Where is my order?</p>", "<p>On its way.</p>", "<p>Thanks!</p>")
    assert found.turns == said(*texts)
    assert (found.id, found.customer, found.topic) == ("1295", "5ba6", "shipping")
    assert found.names == ("Jo Doe", "Ana")


def test_freshdesk_ticket_without_private_notes() -> None:
    found = one(FRESHDESK)
    opening = "Not working\n\nIt does nothing."
    assert found.turns == said(opening, "Plug it in.", "It works!")
    assert (found.id, found.customer, found.topic) == ("20", "jo@x.example", "Problem")
    assert found.names == ("Jo Doe",)


def test_hubspot_thread_is_turned_into_the_order_of_time_without_comments() -> None:
    found = one(HUBSPOT)
    assert found.turns == said("Where?", "Here.")
    assert (found.id, found.customer) == ("4055", "97401")
    assert found.names == ("Jo Doe", "Ana")


def test_hubspot_messages_of_the_api_are_grouped_by_thread() -> None:
    messages = [{**m, "conversationsThreadId": "T"} for m in HUBSPOT["messages"]]
    found = one({"results": messages, "paging": {"next": None}})
    assert (found.turns, found.id, found.customer) == (said("Where?", "Here."), "T", "V-2")


def test_hubspot_table_of_tickets() -> None:
    text = (
        "Ticket ID,Ticket name,Ticket description,Category,Resolution\n7,Fire,It burns,Hot,Water\n"
    )
    found = one(text)
    assert found.turns == said("Fire\n\nIt burns", "Water")
    assert (found.id, found.topic) == ("7", "Hot")


@pytest.mark.parametrize("ticket", HELPDESKS)
@pytest.mark.parametrize("layout", ["jsonl", "array", "pretty", "wrapped", "one behind the other"])
def test_helpdesk_export_in_every_layout(ticket: dict[str, Any], layout: str) -> None:
    alone = one(ticket)
    texts = {
        "jsonl": f"{json.dumps(ticket)}\n" * 2,
        "array": json.dumps([ticket, ticket]),
        "pretty": json.dumps([ticket, ticket], indent=2),
        "wrapped": json.dumps({"count": 2, "meta": {"a": [1]}, "tickets": [ticket, ticket]}),
        "one behind the other": json.dumps(ticket, indent=1) * 2,
    }
    found = rows(texts[layout])
    assert [row.position for row in found] == [1, 2]
    assert [row.turns for row in found if isinstance(row, Conversation)] == [alone.turns] * 2


@pytest.mark.parametrize(
    ("value", "turns"),
    [
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "Why"},
                            {"type": "image_url", "image_url": {}},
                            {"type": "text", "text": "so?"},
                        ],
                    },
                    {"role": "assistant", "content": "So."},
                ]
            },
            said("Why\nso?", "So."),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Why?"},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                    {"role": "tool", "content": "7"},
                    {"role": "assistant", "content": "So."},
                ]
            },
            said("Why?", "So."),
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be."},
                    {"from": "human", "value": "Why?"},
                    {"from": "gpt", "value": "So."},
                ],
                "source": "x",
            },
            said("Why?", "So."),
        ),
        (
            {"instruction": "Sum up", "input": "A text", "output": "Text"},
            said("Sum up\n\nA text", "Text"),
        ),
        ({"instruction": "Sum up", "input": "", "output": "Text"}, said("Sum up", "Text")),
        ({"prompt": "Why?", "completion": "So."}, said("Why?", "So.")),
        (
            {
                "flags": "B",
                "instruction": "Why?",
                "category": "ORDER",
                "intent": "why",
                "response": "So.",
            },
            said("Why?", "So."),
        ),
        (
            {
                "messages": [
                    {"from_agent": False, "body_text": "Why?"},
                    {"from_agent": True, "public": False, "body_text": "No"},
                    {"from_agent": True, "body_text": "So."},
                ]
            },
            said("Why?", "So."),
        ),
        ({"Subject": "Re: why", "Body": "Why?", "Answer": "So."}, said("Why?", "So.")),
    ],
)
def test_chat_and_pair_shapes(value: dict[str, Any], turns: tuple[Turn, ...]) -> None:
    assert one(value).turns == turns


@pytest.mark.parametrize("layout", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("column", "opening"),
    [
        ("question", "Where?"),
        ("body", "My parcel\n\nWhere?"),
        ("description", "My parcel\n\nWhere?"),
    ],
)
def test_subject_goes_before_a_description_not_before_a_question_of_its_own(
    column: str, opening: str, layout: str
) -> None:
    table = f"subject,{column},answer\nMy parcel,Where?,There.\n"
    value = {"subject": "My parcel", column: "Where?", "answer": "There."}
    assert one(table if layout == "csv" else value).turns == said(opening, "There.")


def test_language_topic_and_names_are_taken_from_where_the_export_has_them() -> None:
    text = (
        "subject,body,answer,type,queue,language,tag_1,requester,assignee,requester_email\n"
        "Hello,It burns,Water,Incident,Hardware,de,Fire,Jo Doe,Ana Lee,jo@x.example\n"
    )
    found = one(text)
    assert (found.language, found.topic, found.customer) == ("de", "Fire", "jo@x.example")
    assert found.names == ("Jo Doe", "Ana Lee")


COLUMNS = Columns(
    question="frage.text", answer="antwort.text", id="meta.nr", customer="kunde.mail", topic="thema"
)


def test_dotted_paths_reach_into_objects() -> None:
    value = {
        "frage": {"text": "Warum?"},
        "antwort": {"Text": "Darum."},
        "meta": {"nr": 7},
        "kunde": {"mail": "jo@x.example"},
        "thema": "a; b",
    }
    found = one(value, COLUMNS)
    assert found.turns == said("Warum?", "Darum.")
    assert (found.id, found.customer, found.topic) == ("7", "jo@x.example", "a")


def test_list_of_turns_at_a_path_with_own_roles() -> None:
    value = {
        "log": {
            "entries": [
                {"wer": "Kundin", "was": "Warum?"},
                {"wer": "Automat", "was": "?"},
                {"wer": "Beraterin", "was": "Darum."},
            ]
        }
    }
    columns = Columns(turns="log.entries", role="wer", text="was")
    roles = Roles(customer=("kundin",), agent=("Beraterin",), ignored=("automat",))
    assert one(value, columns, roles).turns == said("Warum?", "Darum.")
    (row,) = rows(value, columns)
    assert isinstance(row, Rejected)
    assert row.reason is Reason.UNKNOWN_SHAPE


def test_own_role_words_hold_in_the_fast_way_as_well() -> None:
    value = {"messages": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]}
    assert one(value).turns == said("a", "b")
    assert one(value, None, Roles(ignored=("bot",))).turns == said("a")


def test_unknown_object_is_rejected_without_quoting_values() -> None:
    (row,) = rows({"colour": "canary", "size": 7})
    assert isinstance(row, Rejected)
    assert row.detail == "no messages, turns or question and answer, but: colour, size"
