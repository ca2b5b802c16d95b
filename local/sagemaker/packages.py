"""The model registry: model package groups and their packages, numbered from 1."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from local.sagemaker import requests
from local.sagemaker.errors import InvalidRequestError, NotFoundError
from local.sagemaker.records import Record, Records
from local.settings import ACCOUNT, REGION

PAGE_SIZE: Final = 10
SUMMARY: Final = (
    *("ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn", "ModelPackageDescription"),
    *("CreationTime", "ModelPackageStatus", "ModelApprovalStatus"),
)


class ModelPackages:
    """Groups and packages below a folder; a repeated ClientToken makes no second package."""

    def __init__(self, folder: Path) -> None:
        self._groups = Records(folder / "groups")
        self._packages = Records(folder / "packages")
        self._lock = threading.Lock()

    def create_group(self, request: Record) -> Record:
        """CreateModelPackageGroup."""
        name = request["ModelPackageGroupName"]
        record = {
            **request,
            "ModelPackageGroupArn": _arn("model-package-group", name),
            "ModelPackageGroupStatus": "Completed",
            "CreationTime": time.time(),
        }
        if not self._groups.create(name, record):
            raise InvalidRequestError(f"Model Package Group already exists: {name}")
        return {"ModelPackageGroupArn": record["ModelPackageGroupArn"]}

    def describe_group(self, request: Record) -> Record:
        """DescribeModelPackageGroup. Raises NotFoundError."""
        name = request["ModelPackageGroupName"].rpartition("/")[2]
        record = self._groups.get(name)
        if record is None:
            raise NotFoundError(f"ModelPackageGroup {name} does not exist.")
        return record

    def create(self, request: Record) -> Record:
        """CreateModelPackage, versioned. Raises NotFoundError, InvalidRequestError."""
        if "ModelPackageGroupName" not in request:
            raise InvalidRequestError("The stand-in registers model packages in groups only.")
        group = self.describe_group(request)["ModelPackageGroupName"]
        with self._lock:
            mine = self._of(group)
            token = request.get("ClientToken")
            for package in mine:
                if token and package.get("ClientToken") == token:
                    return {"ModelPackageArn": package["ModelPackageArn"]}
            version = len(mine) + 1
            known = requests.members("DescribeModelPackage") | {"ClientToken"}
            arn = _arn("model-package", f"{group}/{version}")
            record = {
                **{name: value for name, value in request.items() if name in known},
                "ModelPackageName": f"{group}/{version}",
                "ModelPackageGroupName": group,
                "ModelPackageVersion": version,
                "ModelPackageArn": arn,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": []},
                "CreationTime": time.time(),
            }
            record.setdefault("ModelApprovalStatus", "PendingManualApproval")
            self._packages.create(f"{group}.{version}", record)
        return {"ModelPackageArn": arn}

    def describe(self, request: Record) -> Record:
        """DescribeModelPackage, by ARN. Raises NotFoundError."""
        return {n: v for n, v in self._found(request["ModelPackageName"]).items() if n != TOKEN}

    def update(self, request: Record) -> Record:
        """UpdateModelPackage. Raises NotFoundError."""
        arn = request["ModelPackageArn"]
        found = self._found(arn)
        changes = {n: v for n, v in request.items() if n != TOKEN} | {
            "LastModifiedTime": time.time()
        }
        self._packages.change(_key(found), lambda record: record.update(changes))
        return {"ModelPackageArn": arn}

    def listed(self, request: Record) -> Record:
        """ListModelPackages of a group, newest first."""
        found = self._of(request.get("ModelPackageGroupName", "").rpartition("/")[2])
        found.sort(key=lambda package: -package["ModelPackageVersion"])
        start, size = int(request.get("NextToken", 0)), request.get("MaxResults", PAGE_SIZE)
        page = [{m: r[m] for m in SUMMARY if m in r} for r in found[start : start + size]]
        more = {"NextToken": str(start + size)} if len(found) > start + size else {}
        return {"ModelPackageSummaryList": page, **more}

    def _of(self, group: str) -> list[Record]:
        packages = self._packages.all().values()
        return [package for package in packages if package["ModelPackageGroupName"] == group]

    def _found(self, arn: str) -> Record:
        for package in self._packages.all().values():
            if package["ModelPackageArn"] == arn:
                return package
        raise NotFoundError(f"ModelPackage {arn} does not exist.")


TOKEN: Final = "ClientToken"  # noqa: S105 - the name of a member


def _key(package: Record) -> str:
    return f"{package['ModelPackageGroupName']}.{package['ModelPackageVersion']}"


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"
