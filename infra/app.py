"""Synthesise Dropforge's stacks: `python -m infra.app`, or the `cdk` command.

Writes a cloud assembly to CDK_OUTDIR (default `cdk.out`). CDK_CONTEXT_JSON overrides `cdk.json`.
cdk-nag's AwsSolutions rules are part of every synthesis, and a finding fails it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.config import ConfigError, defaults, settings_from
from infra.data_stack import DataStack
from infra.monitoring_stack import MonitoringStack
from infra.pipeline_stack import PipelineStack
from infra.serving_stack import ServingStack


def build(outdir: str, context: Mapping[str, Any] | None = None) -> cdk.App:
    """The application with its four stacks, ready to be synthesised.

    Args:
        outdir: where the cloud assembly goes.
        context: values over those of `cdk.json`; CDK_CONTEXT_JSON comes on top.

    Raises:
        ConfigError: a context value is wrong.
    """
    app = cdk.App(
        outdir=outdir,
        context={**defaults(), **(context or {})},
        analytics_reporting=False,
        # cfn-lint checks the templates (.cfnlintrc); CDK's own validator takes 10 s to load.
        builtin_cloud_formation_validation=False,
    )
    settings = settings_from(app.node.get_all_context())
    data = DataStack(app, "DropforgeData", settings)
    pipeline = PipelineStack(app, "DropforgePipeline", settings, data)
    serving = ServingStack(app, "DropforgeServing", settings, data)
    monitoring = MonitoringStack(app, "DropforgeMonitoring", settings, data, pipeline, serving)
    for stack in (pipeline, serving, monitoring):
        stack.add_stack_dependency(data)
    cdk.Tags.of(app).add("application", "dropforge")
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app, verbose=True))
    return app


def main() -> int:
    """Synthesise, and say what is wrong with the context where something is."""
    try:
        build(os.environ.get("CDK_OUTDIR", "cdk.out")).synth()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
