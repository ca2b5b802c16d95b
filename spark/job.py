"""What both entry points do around their work: a session, the run's arguments, errors told.

Arguments of a job: bucket, project, key, version id, hash of the configuration's snapshot, run id;
they are fields of the state machine's input.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pyspark.sql import SparkSession

from dropforge.artifacts import JobError, Run, project_snapshot_key
from dropforge.backends import spark_job
from dropforge.backends.store import Store
from dropforge.errors import DropforgeError
from dropforge.project import ProjectConfig

PARTITIONS = 200
"""Tasks of a shuffle; adaptive execution puts small ones together."""
ARROW_ROWS = 2_000
"""Rows handed over to Python at once: conversations may have 64,000 characters each."""
CACHED_ROWS = 1_000

_IN_TASK = re.compile(r"dropforge\.errors\.(\w+): [A-Z_]+: (.*)")
_LOCAL = {
    "spark.ui.enabled": "false",
    "spark.master": "local[2]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "4",
    # On little data, compiling takes longer than what is compiled.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.log.level": "ERROR",
}


@contextmanager
def session(name: str, **settings: str) -> Iterator[SparkSession]:
    """A session, stopped at the end; in local mode where nobody has submitted the job.

    `settings` come last; their names have `_` where Spark's have a dot.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit hands the gateway on
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    values = {
        "spark.sql.shuffle.partitions": str(PARTITIONS),
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_ROWS),
        "spark.sql.inMemoryColumnarStorage.batchSize": str(CACHED_ROWS),
        "spark.driver.maxResultSize": "0",
        **({} if submitted else _LOCAL),
        **{key.replace("_", "."): value for key, value in settings.items()},
    }
    builder = SparkSession.builder.appName(name)
    for key, value in values.items():
        builder = builder.config(key, value)
    started = builder.getOrCreate()
    try:
        yield started
    finally:
        started.stop()


class Job:
    """One run, and the store it works in."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run = run
        self.store = store

    @property
    def config(self) -> ProjectConfig:
        """The project's configuration as it was when the run began."""
        key = project_snapshot_key(self.run.project, self.run.config)
        return ProjectConfig.model_validate_json(self.store.read(key))


def run(name: str, arguments: Sequence[str], work: Callable[[SparkSession, Job], None]) -> int:
    """Do the work in a session; the process's exit status."""
    bucket, project, key, version_id, config, run_id = arguments
    job = Job(Run(run_id, project, bucket, key, version_id, config), Store(bucket))
    with session(f"dropforge {name}") as spark:
        try:
            work(spark, job)
        except Exception:
            traceback.print_exc()
            return 1
    return 0


@contextmanager
def told(store: Store, manifest_key: str) -> Iterator[None]:
    """Reports one of our own errors beside the manifest, wherever it was raised, and goes on.

    Anything else is a fault, and the job fails with it.
    """
    try:
        yield
    except DropforgeError as error:
        spark_job.report(store, manifest_key, error)
    except Exception as fault:
        found = _from_task(fault)
        if found is None:
            raise
        spark_job.report(store, manifest_key, found)


def _from_task(fault: Exception) -> DropforgeError | None:
    """The error that a task raised: Spark hands its traceback over as text only."""
    found = _IN_TASK.findall(str(fault))
    return spark_job.revived(JobError(*found[-1])) if found else None
