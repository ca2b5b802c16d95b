"""What judged tickets and live traffic show, and how sure one may be of it.

Plain numbers in, plain numbers out; no randomness but what a seed decides.
"""

from dropforge.artifacts import Agreement
from dropforge.statistics.agreement import agreement
from dropforge.statistics.arms import Counts, rate_evidence, rating_evidence
from dropforge.statistics.intervals import clustered, wilson
from dropforge.statistics.length import length_controlled
from dropforge.statistics.planning import power, samples_needed
from dropforge.statistics.sequential import (
    Evidence,
    confidence_sequence,
    evidence_above,
    evidence_below,
    running_evidence,
)

__all__ = [
    "Agreement",
    "Counts",
    "Evidence",
    "agreement",
    "clustered",
    "confidence_sequence",
    "evidence_above",
    "evidence_below",
    "length_controlled",
    "power",
    "rate_evidence",
    "rating_evidence",
    "running_evidence",
    "samples_needed",
    "wilson",
]
