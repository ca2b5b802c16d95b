"""The SageMaker endpoint: one base model that scales to zero, LoRA adapters loaded on top.

Reads the base model's weights from `models/<base model>/`, which ops uploads before the first
deployment. The poll function adds an inference component for each trained adapter.
"""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import yaml
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.config import ROOT, SageMaker, has_local_storage
from infra.data_stack import DataStack
from infra.permissions import lists, reads, service_role, uses_key
from infra.training import image_grants, image_uri, sagemaker_job_grants, volume_key_grants

VARIANT = "main"
SERVERS = ROOT / "serving" / "vllm.yaml"
STARTUP_S = 1800
"""Loading 16 GB of weights from S3 to a GPU takes minutes; SageMaker gives up after this."""
TARGET_REQUESTS = 4.0
"""Concurrent requests per copy that scaling aims at."""


class ModelEndpoint(Construct):
    """Endpoint, base inference component, and scaling between zero and `max_copies` copies."""

    def __init__(self, scope: Construct, name: str, sm: SageMaker, data: DataStack) -> None:
        super().__init__(scope, name)
        model = self._model(sm, data)
        endpoint = self._endpoint(sm, data)
        self.component = self._base_component(sm, model)
        self.component.add_resource_dependency(endpoint)
        self._scaling(sm)

    def _base_component(
        self, sm: SageMaker, model: sagemaker.CfnModel
    ) -> sagemaker.CfnInferenceComponent:
        component = sagemaker.CfnInferenceComponent
        return component(
            self,
            "Base",
            endpoint_name=sm.endpoint_name,
            variant_name=VARIANT,
            inference_component_name=sm.base_component,
            specification=component.InferenceComponentSpecificationProperty(
                model_name=model.attr_model_name,
                compute_resource_requirements=(
                    component.InferenceComponentComputeResourceRequirementsProperty(
                        min_memory_required_in_mb=sm.serving_memory_mb,
                        number_of_accelerator_devices_required=1,
                    )
                ),
                startup_parameters=component.InferenceComponentStartupParametersProperty(
                    container_startup_health_check_timeout_in_seconds=STARTUP_S,
                    model_data_download_timeout_in_seconds=STARTUP_S,
                ),
            ),
            runtime_config=component.InferenceComponentRuntimeConfigProperty(copy_count=1),
        )

    def _model(self, sm: SageMaker, data: DataStack) -> sagemaker.CfnModel:
        self._role = service_role(self, "Role", "sagemaker", "Dropforge: the model endpoint")
        for grant in (
            lists(data.bucket_arn),
            reads(data.bucket_arn, "models/*", "train/*"),
            uses_key(data.key_arn, "s3"),
            *sagemaker_job_grants("/aws/sagemaker/"),
            *image_grants(sm.serving_image),
            *volume_key_grants(data.key_arn),
        ):
            grant.to(self._role)
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=self._role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image_uri(sm.serving_image),
                environment=container_environment(sm),
                model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(
                    s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                        s3_uri=f"s3://{data.bucket_name}/models/{sm.base_model}/",
                        s3_data_type="S3Prefix",
                        compression_type="None",
                    )
                ),
            ),
        )
        model.node.add_dependency(self._role)
        return model

    def _endpoint(self, sm: SageMaker, data: DataStack) -> sagemaker.CfnEndpoint:
        variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name=VARIANT,
            instance_type=sm.serving_instance,
            initial_instance_count=1,
            container_startup_health_check_timeout_in_seconds=STARTUP_S,
            model_data_download_timeout_in_seconds=STARTUP_S,
            managed_instance_scaling=sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty(
                status="ENABLED", min_instance_count=0, max_instance_count=sm.max_copies
            ),
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
        )
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            execution_role_arn=self._role.role_arn,
            production_variants=[variant],
            kms_key_id=None if has_local_storage(sm.serving_instance) else data.key_arn,
        )
        return sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=sm.endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
        )

    def _scaling(self, sm: SageMaker) -> None:
        """As many copies as the load asks for, none when there is no load."""
        target = autoscaling.ScalableTarget(
            self,
            "Copies",
            service_namespace=autoscaling.ServiceNamespace.SAGEMAKER,
            resource_id=f"inference-component/{sm.base_component}",
            scalable_dimension="sagemaker:inference-component:DesiredCopyCount",
            min_capacity=0,
            max_capacity=sm.max_copies,
            role=iam.Role.from_role_arn(self, "ScalingRole", _scaling_role_arn()),
        )
        target.node.add_dependency(self.component)
        autoscaling.CfnScalingPolicy(
            self,
            "FollowLoad",
            policy_name=f"{sm.base_component}-follow-load",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.scalable_target_id,
            target_tracking_scaling_policy_configuration=_tracking(),
        )
        self._wake_up(sm, target)

    def _wake_up(self, sm: SageMaker, target: autoscaling.ScalableTarget) -> None:
        """An alarm on requests that found no copy starts the first one; it takes minutes."""
        wake = autoscaling.StepScalingAction(
            self,
            "WakeUp",
            scaling_target=target,
            adjustment_type=autoscaling.AdjustmentType.CHANGE_IN_CAPACITY,
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
            cooldown=cdk.Duration.seconds(60),
        )
        wake.add_adjustment(adjustment=1, lower_bound=0)
        asleep = cloudwatch.Alarm(
            self,
            "Asleep",
            alarm_name="dropforge-endpoint-asleep",
            alarm_description="A request found no copy of the model; the alarm starts one.",
            metric=cloudwatch.Metric(
                namespace="AWS/SageMaker",
                metric_name="NoCapacityInvocationFailures",
                dimensions_map={"InferenceComponentName": sm.base_component},
                statistic="Maximum",
                period=cdk.Duration.seconds(30),
            ),
            threshold=1,
            evaluation_periods=1,
            comparison_operator=(cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD),
            treat_missing_data=cloudwatch.TreatMissingData.MISSING,
        )
        asleep.add_alarm_action(actions.ApplicationScalingAction(wake))


def _scaling_role_arn() -> str:
    """The service-linked role with which AWS scales SageMaker endpoints; AWS makes it itself."""
    service = "sagemaker.application-autoscaling.amazonaws.com"
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    account = f"arn:{cdk.Aws.PARTITION}:iam::{cdk.Aws.ACCOUNT_ID}"
    return f"{account}:role/aws-service-role/{service}/{name}"


def _tracking() -> autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty:
    metric = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    return autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
        target_value=TARGET_REQUESTS,
        predefined_metric_specification=(
            autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                predefined_metric_type=metric
            )
        ),
        scale_in_cooldown=600,
        scale_out_cooldown=300,
    )


def container_environment(sm: SageMaker) -> dict[str, str]:
    """vLLM with LoRA adapters that come and go, as serving/vllm.yaml has it for the image."""
    repository = sm.serving_image.rpartition("/")[2].partition(":")[0]
    servers: dict[str, Any] = yaml.safe_load(SERVERS.read_text())
    server = next((s for s in servers.values() if s["repository"] == repository), servers["lmi"])
    return {name: value.format(**sm.model_dump()) for name, value in server["environment"].items()}
