"""docs/cost.md and docs/cost.svg: `python -m benchmarks cost`. No number in them stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks import bill
from benchmarks.figures import ROOT, Figure
from dropforge.page import STYLE
from dropforge.plots import Line, Rest, curves
from infra.config import settings_from

PAGE, PLOT = ROOT / "docs/cost.md", ROOT / "docs/cost.svg"
WAITS = (0.5, 2.0, 8.0)
POINTS = 60


def template() -> bill.Template:
    """As cdk.json has it."""
    settings = settings_from({})
    memory = settings.functions.of("chat").memory_mb
    return bill.Template(memory_mb=memory, architecture=settings.architecture)


def figures() -> Iterator[Figure]:
    """Writes both files; the totals for the page of figures."""
    PAGE.write_text(page())
    PLOT.write_text(plot())
    request = bill.Request()
    own = bill.ours(template(), request)
    idle = sum(bill.idle(template()).values())
    yield Figure(
        f"a million requests, {request.wait_seconds:g} s of waiting each, cache (all misses) and "
        "budget on; idle",
        f"{own.million * 100:,.0f} cents; ${idle:.2f} a month",
    )
    for other in (bill.containers(request), bill.proxy(request)):
        even = bill.break_even(own, other)
        yield Figure(
            f"the same: {other.name}",
            f"{other.million * 100:,.0f} cents; ${other.month:.2f} a month"
            + (f"; cheaper from {even:,.0f} requests a month on" if even is not None else ""),
        )


def page() -> str:
    """The text of docs/cost.md."""
    base, request = template(), bill.Request()
    own = bill.ours(base, request)
    others = (bill.containers(request), bill.proxy(request))
    million, idle = bill.per_million(base, request), bill.idle(base)
    lean = bill.Request(cache=False, budget=False)
    metrics = bill.METRICS_IN_USE * bill.PRICES["CloudWatch metrics"].usd
    return f"""# What the API costs to run

Written by `python -m benchmarks cost` from the price table in `benchmarks/bill.py`: list prices of
{bill.REGION}, {bill.CHECKED}, as far as they could be checked, without free tiers, discounts and
taxes. Models, their answers, training and storage are in no number here: they cost the same
whatever stands in front of them.

A request waits {request.wait_seconds:g} s for its model; Lambda bills the wait. The function has
{base.memory_mb} MB of memory ({base.architecture}). The exact cache is on and every request misses
it, and every token has a budget. The other assumptions are the fields of `bill.Request`.

| | idle, dollars a month | a million requests, cents | break-even, requests a month |
|---|---|---|---|
{_way(own, None)}
{"".join(_way(other, bill.break_even(own, other)) + chr(10) for other in others)}
Break-even: from so many requests a month on, that way costs less than this template. The
containers (two Fargate tasks of half a vCPU and 1 GB) and the gateway (one t3.medium with its disk
and address) have no firewall, no alarms, no budgets and no cache store; the gateway has no second
machine, either. Idle is with one project in use, whose {bill.METRICS_IN_USE} metrics cost
${metrics:.2f} a month; without any it is ${sum(idle.values()):.2f}.

![Dollars a month against requests a month](cost.svg)

## A million requests

| | cents |
|---|---|
{_rows(million, 100)}

| seconds of waiting | cents, cache and budget on | off | a quarter answered from the cache |
|---|---|---|---|
{"".join(_wait(base, seconds) for seconds in WAITS)}
At {request.wait_seconds:g} s without cache and budget it is {_million(base, lean):,.0f} cents. Less
memory would make the wait cheaper, and every cold start longer.

## Idle

| | dollars a month |
|---|---|
{_rows(idle, 1)}

The SageMaker endpoint scales to zero instances; while one is up, it costs more than all of this.

## Prices

| | dollars | for a | from aws.amazon.com/ |
|---|---|---|---|
{"".join(_price(name, price) for name, price in bill.PRICES.items())}"""


def plot() -> str:
    """The text of docs/cost.svg: dollars a month against requests a month, break-even marked."""
    request = bill.Request()
    ways = (bill.ours(template(), request), bill.containers(request), bill.proxy(request))
    names = ("Dropforge", "containers", "a gateway")
    even = bill.break_even(ways[0], ways[1]) or bill.MILLION
    right = even * 1.6
    xs = [right * place / POINTS for place in range(POINTS + 1)]
    drawn = curves(
        [Line(name, [(x, way.usd(x)) for x in xs]) for name, way in zip(names, ways, strict=True)],
        "requests a month, in dollars a month",
        rest=Rest(even, f"containers cost less from {even / bill.MILLION:.1f}M on"),
    )
    head = drawn.partition("<svg ")[2].partition(">")
    style = f"<style>{STYLE}svg{{background:var(--paper)}}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {head[0]}>{style}{head[2]}\n'


def _way(way: bill.Way, even: float | None) -> str:
    told = "–" if even is None else f"{even:,.0f}"
    return f"| {way.name} | {way.month:.2f} | {way.million * 100:,.0f} | {told} |"


def _rows(lines: Mapping[str, float], factor: float) -> str:
    rows = [f"| {name} | {usd * factor:,.2f} |" for name, usd in lines.items()]
    return "\n".join([*rows, f"| **in all** | **{sum(lines.values()) * factor:,.2f}** |"])


def _wait(base: bill.Template, seconds: float) -> str:
    on = bill.Request(wait_seconds=seconds)
    off = bill.Request(wait_seconds=seconds, cache=False, budget=False)
    hits = bill.Request(wait_seconds=seconds, cached=0.25)
    return "| {:g} | {:,.0f} | {:,.0f} | {:,.0f} |\n".format(
        seconds, *(_million(base, request) for request in (on, off, hits))
    )


def _price(name: str, price: bill.Price) -> str:
    return f"| {name} | {_plain(price.usd)} | {price.per} | {price.page} |\n"


def _million(base: bill.Template, request: bill.Request) -> float:
    return 100 * sum(bill.per_million(base, request).values())


def _plain(usd: float) -> str:
    return f"{usd:.10f}".rstrip("0").rstrip(".")
