"""From a dropped file to a promoted model: queue, functions, state machine, schedule."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra import workflow
from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function, log_group
from infra.model_registry import ModelRegistry
from infra.permissions import Grant, acknowledge_wildcards
from infra.pipeline_functions import answers_waiting_runs, pipeline_functions
from infra.promotion import Promotion
from infra.queues import encrypted_queue
from infra.schedule import Schedule
from infra.spark import Spark
from infra.training import TrainingRole, image_uri, runs_training_jobs

MONTHLY = "Starts a run for every project that asked for a monthly one"
DRIFT = "Asks the models in production the golden questions and holds the answers to the first ones"
EXTRACTIONS = "Reads the databases of the projects that extract, and drops what is new"
WATCH = "Reads the providers' lists of models for dates on which they shut down"
MAX_RECEIVES = 3
VISIBILITY_FACTOR = 6
"""AWS asks for a visibility timeout of at least six times the function's (Lambda guide)."""


class PipelineStack(cdk.Stack):
    """`state_machine`, the dead-letter queues and the functions are watched by other stacks."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name, description="Dropforge: from a dropped file to a model")
        self._settings, self._data = settings, data
        self._key = kms.Key.from_key_arn(self, "Key", data.key_arn)
        self.drop_letters = encrypted_queue(
            self, "DropDeadLetters", self._key, keep=cdk.Duration.days(14)
        )
        self.event_letters = encrypted_queue(
            self, "EventDeadLetters", self._key, keep=cdk.Duration.days(14)
        )
        self.functions = pipeline_functions(self, settings, data, self.event_letters)
        self.functions |= Promotion(self, "Promotion", settings, data, self.event_letters).functions
        ModelRegistry(self, "Models")
        self.state_machine = self._state_machine()
        self._start(self.functions["drop"])
        self._feed(self.functions["drop"])
        self._notice_failures(self.functions["fail"])
        self._start(self.functions["schedule"])
        self._call_by_clock("Monthly", "schedule", settings.monthly_schedule, MONTHLY)
        answers_waiting_runs(self).to(self.functions["wait"].role)
        self._start(self.functions["watch"])
        self._call_by_clock("Shutdowns", "watch", settings.watch_schedule, WATCH)
        self._call_by_clock("Looks", "drift", settings.drift_schedule, DRIFT)
        self._call_by_clock("Extractions", "extract", settings.extract_schedule, EXTRACTIONS)

    def _call_by_clock(self, name: str, function: str, expression: str, description: str) -> None:
        Schedule(
            self,
            name,
            self.functions[function].function,
            expression,
            name=name.lower(),
            description=description,
            dead_letters=self.event_letters,
            key_arn=self._data.key_arn,
        )

    def _feed(self, drop: Function) -> None:
        """Exports, and each project's project.yaml and golden.jsonl, reach the drop function."""
        queue = encrypted_queue(
            self,
            "Drops",
            self._key,
            keep=cdk.Duration.days(4),
            visibility=cdk.Duration.seconds(
                VISIBILITY_FACTOR * self._settings.functions.drop.timeout_s
            ),
            dead_letters=sqs.DeadLetterQueue(
                max_receive_count=MAX_RECEIVES, queue=self.drop_letters
            ),
        )
        events.Rule(
            self,
            "Dropped",
            description="A file was dropped, or a project got its configuration or questions",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [self._data.bucket_name]},
                    "object": {
                        "key": [
                            {"prefix": "exports/"},
                            {"wildcard": "projects/*/project.yaml"},
                            {"wildcard": "projects/*/golden.jsonl"},
                        ]
                    },
                },
            ),
            targets=[targets.SqsQueue(queue, dead_letter_queue=self.event_letters)],
        )
        drop.function.add_event_source(
            sources.SqsEventSource(
                queue,
                batch_size=10,
                max_concurrency=self._settings.drop_concurrency,
                report_batch_item_failures=True,
            )
        )

    def _state_machine(self) -> sfn.StateMachine:
        settings, data = self._settings, self._data
        training = TrainingRole(self, "Training", settings, data)
        training.let_train_without_instances(self.functions["launch"])
        role = runs_training_jobs(self, settings, data, training.role)
        spark = Spark(self, "Spark", settings, data) if settings.spark.image else None
        if spark:
            spark.let_run(role)
        called = {name: self.functions[name].function for name in workflow.FUNCTIONS}
        Grant(("lambda:InvokeFunction",), tuple(f.function_arn for f in called.values())).to(role)
        machine = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=workflow.NAME,
            comment="One execution for each dropped file",
            definition_body=sfn.DefinitionBody.from_string(
                json.dumps(workflow.definition(settings), separators=(",", ":"))
            ),
            definition_substitutions=workflow.substitutions(
                {name: f.function_arn for name, f in called.items()},
                {
                    "Bucket": data.bucket_name,
                    "KeyArn": data.key_arn,
                    "CreateTrainingJob": (
                        f"arn:{cdk.Aws.PARTITION}:states:::sagemaker:createTrainingJob.sync"
                    ),
                    "InvokeAndWait": (
                        f"arn:{cdk.Aws.PARTITION}:states:::lambda:invoke.waitForTaskToken"
                    ),
                    "TrainingImage": image_uri(settings.sagemaker.training_image),
                    "TrainingRoleArn": training.role.role_arn,
                    **(spark.substitutions if spark else {}),
                },
            ),
            role=role,
            encryption_configuration=sfn.CustomerManagedEncryptionConfiguration(self._key),
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=log_group(
                    self, "RunLogs", f"/aws/vendedlogs/states/{workflow.NAME}", data, settings
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=False,
            ),
        )
        acknowledge_wildcards(
            role,
            ["*"],
            "Log delivery and X-Ray actions of the state machine have no resource type (Step"
            " Functions developer guide, logging and tracing policies).",
        )
        return machine

    def _start(self, function: Function) -> None:
        """Let a function start runs. The ARN goes to its environment; neither refers back."""
        arn = self.state_machine.state_machine_arn
        Grant(("states:StartExecution",), (arn,)).to(function.role)
        function.function.add_environment("DROPFORGE_STATE_MACHINE_ARN", arn)

    def _notice_failures(self, fail: Function) -> None:
        """Runs that end without passing the Fail state are told to the fail function as well.

        Their events carry no input, because a customer managed key encrypts it, so the function
        may look the execution up.
        """
        executions = self.format_arn(
            service="states",
            resource="execution",
            resource_name=f"{workflow.NAME}:*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        Grant(
            ("states:DescribeExecution",),
            (executions,),
            "Names of executions are data; the statement is limited to one state machine's.",
        ).to(fail.role)
        events.Rule(
            self,
            "RunEnded",
            description="A run was stopped, ran out of time, or failed outside its own handling",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [self.state_machine.state_machine_arn],
                    "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
            targets=[
                targets.LambdaFunction(
                    fail.function,
                    dead_letter_queue=self.event_letters,
                    retry_attempts=8,
                    max_event_age=cdk.Duration.hours(6),
                )
            ],
        )
