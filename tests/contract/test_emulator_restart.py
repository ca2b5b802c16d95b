"""What a restart leaves: everything stored, and an end to executions that it cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from contract_parts import ROLE, client_for, until

WAIT = json.dumps({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": True}}})
ABORTED = {
    "source": ["aws.states"],
    "detail-type": ["Step Functions Execution Status Change"],
    "detail": {"status": ["TIMED_OUT", "ABORTED"]},
}


def test_restart_keeps_state_and_aborts_running_executions(restarting: Callable[[], Any]) -> None:
    with restarting() as url:
        sqs, s3, states = (client_for(url, name) for name in ("sqs", "s3", "stepfunctions"))
        queue = sqs.create_queue(QueueName="aborted")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        events = client_for(url, "events")
        events.put_rule(Name="aborted", EventPattern=json.dumps(ABORTED))
        target = {"Id": "1", "Arn": attributes["Attributes"]["QueueArn"]}
        events.put_targets(Rule="aborted", Targets=[target])
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a/b", Body=b"1")
        machine = states.create_state_machine(name="waits", definition=WAIT, roleArn=ROLE)
        execution = states.start_execution(
            stateMachineArn=machine["stateMachineArn"], input='{"run": 1}'
        )["executionArn"]
    with restarting():
        assert s3.get_object(Bucket="kept", Key="a/b")["Body"].read() == b"1"
        assert states.describe_execution(executionArn=execution)["status"] == "ABORTED"
        (message,) = until(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
    detail = json.loads(message["Body"])["detail"]
    assert (detail["executionArn"], detail["input"]) == (execution, '{"run": 1}')
