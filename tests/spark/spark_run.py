"""Runs jobs in one session: `python -m tests.spark.spark_run SPEC`, in .venv-spark.

SPEC is a JSON list of {"stage", "run", "tasks", "range", "rows_a_part"}; answers with a line for
each: how long it took.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path

import msgspec

from dropforge.artifacts import Run
from dropforge.backends.store import Store
from spark.clean import Sizes, clean
from spark.job import Job, session


def as_script(run: Run) -> None:
    """The way EMR Serverless does it: the file, with arguments. Ends the session."""
    sys.argv = ["clean.py", run.bucket, run.project, run.key, run.version_id, run.config, "run"]
    try:
        runpy.run_path(str(Path(__file__).parents[2] / "spark" / "clean.py"), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def main() -> None:
    specs = json.loads(sys.argv[1])
    # Put together, the tasks would be one on so few rows.
    settings = {"spark_sql_adaptive_enabled": "false", "spark_master": "local[1]"}
    with session("tests", **settings) as spark:
        for spec in specs:
            began = time.monotonic()
            run = msgspec.convert(spec["run"], Run)
            job = Job(run, Store(run.bucket))
            spark.conf.set("spark.sql.shuffle.partitions", str(spec["tasks"]))
            if spec["stage"] == "script":
                as_script(run)
            elif spec["stage"] == "clean":
                clean(spark, job, Sizes(spec["range"], spec["rows_a_part"]))
            else:
                from spark.validate import validate

                validate(spark, job)
            if spec["stage"] != "script":
                spark.catalog.clearCache()
            print(spec["stage"], run.project, f"{time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
