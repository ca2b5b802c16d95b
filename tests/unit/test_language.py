from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean import language
from dropforge.clean.language import languages, lookup, words


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is my order? It should have arrived last week.", "en"),
        ("WHERE IS MY ORDER? IT SHOULD HAVE ARRIVED LAST WEEK.", "en"),
        ("Wo bleibt meine Bestellung? Sie sollte letzte Woche ankommen.", "de"),
        ("Où est ma commande ? Elle devait arriver la semaine dernière.", "fr"),
        ("¿Dónde está mi pedido? Debía llegar la semana pasada.", "es"),
        ("Onde está o meu pedido? Devia ter chegado na semana passada.", "pt"),
        ("Dov'è il mio ordine? Doveva arrivare la settimana scorsa.", "it"),
        ("Waar is mijn bestelling? Die zou vorige week aankomen.", "nl"),
        ("我的订单在哪里?上周就应该到了。", "zh"),
        ("注文した商品がまだ届きません。", "ja"),
        ("Где мой заказ? Он должен был прийти на прошлой неделе.", "ru"),
        ("ok", "und"),
        ("", "und"),
        ("12345 67890 !!!", "und"),
        ("[EMAIL_1] https://x.example/where/is/my/order", "und"),
    ],
)
def test_language_is_told(text: str, code: str) -> None:
    assert languages([text]) == [code]


def test_order_is_kept_across_batches() -> None:
    texts = ["Where is my parcel, please?", "ok", "Wo ist mein Paket, bitte?"] * 2000
    assert languages(texts) == ["en", "und", "de"] * 2000


@given(st.lists(st.text(), max_size=5))
def test_any_text_gets_the_same_code_again(texts: list[str]) -> None:
    found = languages(texts)
    assert found == [languages([text])[0] for text in texts]
    assert all(2 <= len(code) <= 3 for code in found)


def test_lone_surrogates_and_line_breaks_are_no_problem() -> None:
    assert languages(["Where is\nmy order \ud800 please?"]) == ["en"]


def test_long_texts_are_only_sampled() -> None:
    began = time.process_time()
    languages(["Where is my parcel, please? " * 40_000] * 20)
    assert time.process_time() - began < 0.5


def test_plain_english_is_told_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_language", lambda text: "und")
    english = "I have not received the order that you sent last week, where is it now?"
    assert languages([english, f"{english} Ich warte noch"]) == ["en", "und"]


def test_words_of_many_texts_are_found_in_their_text_whatever_the_case() -> None:
    found = words(["One two", "", "Größe TWO, three!", "disappointment"])
    assert found.counts().tolist() == [2, 0, 3, 1]
    chosen = lookup(["two", "größe", "disappointed"]).take(found.keys)
    assert found.rows[chosen].tolist() == [0, 2, 2, 3]  # eight bytes of a word count
