from __future__ import annotations

import math
import random

import pytest

from dropforge.serve.cache import CacheKey
from dropforge.serve.near import ALPHA, Near, Record, cosine, nearest, packed

LIMIT = 0.02


def test_nothing_is_proven_without_checks() -> None:
    assert not Record().proven(LIMIT)
    assert not Record().refuted(LIMIT)
    assert Record().bound() == 1


def test_180_right_hits_prove_two_percent_and_one_false_one_more_takes_it_back() -> None:
    assert not Record(170, 0).proven(LIMIT)
    assert Record(180, 0).proven(LIMIT)
    assert not Record(181, 1).proven(LIMIT)
    assert Record(181, 1).bound() > LIMIT


def test_the_bound_is_where_proof_begins() -> None:
    for record in (Record(50, 0), Record(500, 3), Record(3000, 30)):
        bound = record.bound()
        assert record.proven(bound)
        assert not record.proven(bound - 0.001)
        assert bound > record.false / record.checks


@pytest.mark.parametrize(("share", "proof"), [(LIMIT, "proven"), (LIMIT, "refuted")])
def test_proofs_at_the_limit_are_wrong_in_at_most_five_percent_looked_at_always(
    share: float, proof: str
) -> None:
    chance, runs, wrong = random.Random(5), 400, 0
    for _ in range(runs):
        false = 0
        for checks in range(1, 1001):
            false += chance.random() < share
            if checks % 4 == 0 and getattr(Record(checks, false), proof)(LIMIT):
                wrong += 1
                break
    assert wrong / runs <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_many_false_hits_are_refuted_soon() -> None:
    assert Record(20, 5).refuted(LIMIT)
    assert not Record(200, 2).refuted(LIMIT)


def test_packed_vectors_keep_their_cosine() -> None:
    chance = random.Random(1)
    partition = CacheKey.of("p")
    for _ in range(50):
        one, other = ([chance.gauss(0, 1) for _ in range(384)] for _ in range(2))
        near = Near.of(partition, CacheKey.of("k"), packed(other), 1, 2)
        found, _ = nearest(packed(one), [near])
        assert found == pytest.approx(cosine(one, other), abs=0.005)


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan")], [float("inf"), 1.0]])
def test_a_vector_of_no_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="direction"):
        packed(vector)


def test_vectors_of_another_length_are_passed_over() -> None:
    near = Near.of(CacheKey.of("p"), CacheKey.of("k"), b"\x01\x02", 1, 2)
    assert nearest(b"\x01\x02\x03", [near]) == (-1.0, None)


def test_a_note_opens_with_its_own_partition_only() -> None:
    partition, key = CacheKey.of("p"), CacheKey.of("k")
    near = Near.of(partition, key, b"\x01", 1, 2)

    assert near.open(partition) == key
    assert near.open(CacheKey.of("q")) is None
    assert key.secret not in (near.sealed, near.code)
