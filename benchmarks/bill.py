"""What it costs to run the API, and two ways of running it always on: list prices, no credits.

Reads nothing; `python -m benchmarks cost` writes docs/cost.md and docs/cost.svg from it. Models,
their training and people's time are in no number: they are the same either way.
"""

from __future__ import annotations

from dataclasses import dataclass

REGION = "us-east-1"
CHECKED = "November 2026"
HOURS = 730.0
"""Of a month, as AWS's own calculator counts."""
MILLION = 1_000_000
GB = 1e9


POLLS = 5 * HOURS * 3600 / 20
"""Of a queue in a month: Lambda asks five times at once, and waits 20 s for a message each time."""


@dataclass(frozen=True)
class Price:
    """A list price in US dollars, without free tiers and volume discounts.

    `page` is the service's pricing page below aws.amazon.com.
    """

    usd: float
    per: str
    page: str


PRICES = {
    "Lambda, x86_64": Price(0.0000166667, "GB-second", "lambda/pricing"),
    "Lambda, arm64": Price(0.0000133334, "GB-second", "lambda/pricing"),
    "Lambda requests": Price(0.20, "million", "lambda/pricing"),
    "API Gateway, REST": Price(3.50, "million requests", "api-gateway/pricing"),
    "DynamoDB reads": Price(
        0.125, "million units of 4 KB, on demand", "dynamodb/pricing/on-demand"
    ),
    "DynamoDB writes": Price(
        0.625, "million units of 1 KB, on demand", "dynamodb/pricing/on-demand"
    ),
    "CloudWatch logs": Price(0.50, "GB taken in", "cloudwatch/pricing"),
    "CloudWatch metrics": Price(0.30, "metric and month", "cloudwatch/pricing"),
    "CloudWatch alarms": Price(0.10, "metric and month", "cloudwatch/pricing"),
    "X-Ray": Price(5.00, "million traces", "xray/pricing"),
    "KMS keys": Price(1.00, "key and month", "kms/pricing"),
    "KMS requests": Price(0.03, "10,000", "kms/pricing"),
    "Secrets": Price(0.40, "secret and month", "secrets-manager/pricing"),
    "Secrets requests": Price(0.05, "10,000", "secrets-manager/pricing"),
    "WAF lists": Price(5.00, "list and month", "waf/pricing"),
    "WAF rules": Price(1.00, "rule and month", "waf/pricing"),
    "WAF requests": Price(0.60, "million", "waf/pricing"),
    "SQS": Price(0.40, "million requests", "sqs/pricing"),
    "traffic to the internet": Price(0.09, "GB", "ec2/pricing/on-demand"),
    "Fargate CPU": Price(0.04048, "vCPU-hour", "fargate/pricing"),
    "Fargate memory": Price(0.004445, "GB-hour", "fargate/pricing"),
    "load balancer": Price(0.0225, "hour", "elasticloadbalancing/pricing"),
    "load balancer units": Price(0.008, "LCU-hour", "elasticloadbalancing/pricing"),
    "EC2 t3.medium": Price(0.0416, "hour", "ec2/pricing/on-demand"),
    "EBS gp3": Price(0.08, "GB and month", "ebs/pricing"),
    "public IPv4": Price(0.005, "hour", "vpc/pricing"),
}


@dataclass(frozen=True)
class Template:
    """What of the deployed template costs money while nobody asks anything.

    A test counts these in the synthesised template.
    """

    memory_mb: int = 256
    architecture: str = "x86_64"
    keys: int = 1
    secrets: int = 3
    alarm_metrics: int = 29
    polled_queues: int = 4
    web_lists: int = 1
    web_rules: int = 2


@dataclass(frozen=True)
class Request:
    """What one chat request takes, on average.

    Attributes:
        wait_seconds: until the model has answered; Lambda bills the wait.
        own_seconds: what the function takes beyond the wait.
        cached: the share that is answered from the exact cache, without a wait.
        cache, budget: whether the exact cache and a budget are on.
        authorized: the share for which API Gateway asks the authorizer, whose answers it keeps.
        cold: the share that starts a container, and what the start takes.
        log_kb, answer_kb: of one log line with its metrics, and of one answer.
        traced: the share that X-Ray keeps of many requests.
    """

    wait_seconds: float = 2.0
    own_seconds: float = 0.005
    cached: float = 0.0
    cache: bool = True
    budget: bool = True
    authorized: float = 0.02
    cold: float = 0.005
    cold_seconds: float = 0.25
    log_kb: float = 1.2
    answer_kb: float = 2.0
    traced: float = 0.05


METRICS_IN_USE = 8
"""Of a project that is asked anything: what its log lines count."""


def per_million(template: Template, request: Request) -> dict[str, float]:
    """Dollars for a million requests, by what they are paid for."""
    asked = 1 - request.cached
    seconds = (
        asked * request.wait_seconds + request.own_seconds + request.cold * request.cold_seconds
    )
    rate = _usd(f"Lambda, {template.architecture}") * template.memory_mb / 1024
    # An eventually consistent read is half a unit; the registry is read once in a few seconds.
    reads = 0.5 * (0.1 + request.cache) + request.authorized
    writes = asked * request.answer_kb * request.cache + 2 * request.budget
    return {
        "Lambda: the wait for the model": asked * request.wait_seconds * MILLION * rate,
        "Lambda: its own time, cold starts, the authorizer": (
            (seconds - asked * request.wait_seconds + request.authorized * 0.02) * MILLION * rate
        ),
        "Lambda: requests": (1 + request.authorized) * _usd("Lambda requests"),
        "API Gateway": _usd("API Gateway, REST"),
        "WAF": _usd("WAF requests"),
        "DynamoDB: reads": reads * _usd("DynamoDB reads"),
        "DynamoDB: writes (budget and cache)": writes * _usd("DynamoDB writes"),
        "CloudWatch logs": _logs(request),
        "X-Ray": request.traced * _usd("X-Ray"),
        "KMS and Secrets Manager": request.cold
        * MILLION
        / 10_000
        * (2 * _usd("KMS requests") + _usd("Secrets requests")),
        "traffic": _traffic(request),
    }


def idle(template: Template) -> dict[str, float]:
    """Dollars a month while nobody asks anything, by what they are paid for."""
    return {
        "WAF": template.web_lists * _usd("WAF lists") + template.web_rules * _usd("WAF rules"),
        "alarms": template.alarm_metrics * _usd("CloudWatch alarms"),
        "KMS keys": template.keys * _usd("KMS keys"),
        "secrets": template.secrets * _usd("Secrets"),
        "polling of queues": template.polled_queues * POLLS / MILLION * _usd("SQS"),
    }


@dataclass(frozen=True)
class Way:
    """A way of running an API: dollars a month, and for each million requests."""

    name: str
    month: float
    million: float

    def usd(self, requests: float) -> float:
        """The month's bill for so many requests."""
        return self.month + self.million * requests / MILLION


def ours(template: Template, request: Request, *, projects: int = 1) -> Way:
    """This template; `projects` are those that are asked anything, whose metrics cost."""
    metrics = projects * METRICS_IN_USE * _usd("CloudWatch metrics")
    fixed = sum(idle(template).values()) + metrics
    return Way("Dropforge", fixed, sum(per_million(template, request).values()))


def containers(request: Request, *, count: int = 2, vcpu: float = 0.5, gb: float = 1.0) -> Way:
    """Always-on Fargate tasks behind a load balancer, without firewall, alarms or budgets."""
    task = vcpu * _usd("Fargate CPU") + gb * _usd("Fargate memory") + _usd("public IPv4")
    fixed = HOURS * (count * task + _usd("load balancer"))
    return Way(f"{count} containers and a load balancer", fixed, _balanced(request))


def proxy(request: Request, *, disk_gb: float = 20.0) -> Way:
    """An always-on gateway such as LiteLLM on one virtual machine, without a second one."""
    fixed = HOURS * (_usd("EC2 t3.medium") + _usd("public IPv4")) + disk_gb * _usd("EBS gp3")
    return Way("a gateway on one machine", fixed, _logs(request) + _traffic(request))


def break_even(one: Way, other: Way) -> float | None:
    """From how many requests a month on `other` costs less than `one`; None: it never does."""
    if one.million <= other.million:
        return None
    return max(0.0, (other.month - one.month) / (one.million - other.million) * MILLION)


def _balanced(request: Request) -> float:
    """Of a load balancer's units, the gigabytes count here: one unit takes a gigabyte an hour."""
    units = MILLION * request.answer_kb * 1e3 / GB
    return units * _usd("load balancer units") + _logs(request) + _traffic(request)


def _logs(request: Request) -> float:
    return MILLION * request.log_kb * 1e3 / GB * _usd("CloudWatch logs")


def _traffic(request: Request) -> float:
    return MILLION * request.answer_kb * 1e3 / GB * _usd("traffic to the internet")


def _usd(name: str) -> float:
    return PRICES[name].usd
