"""A bearer token for `/openai/v1` of a SageMaker endpoint, made of AWS credentials.

`python -m serving.bearer_token --hours 12` prints one. The token is what AWS's own generator makes
(sagemaker-core 2.27, `sagemaker.core.token_generator`), without its 998 MB: a SigV4-presigned POST
of `CallWithBearerToken`, without its scheme, in base64 behind a prefix. It carries the caller's
rights (`sagemaker:CallWithBearerToken`, `sagemaker:InvokeEndpoint`), cannot be taken back, and ends
with the credentials that signed it, at the latest after its hours.
"""

from __future__ import annotations

import argparse
import base64
import sys

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session

HOST = "sagemaker.amazonaws.com"
PREFIX = "sagemaker-api-key-"
MAX_HOURS = 12


def bearer_token(credentials: Credentials, region: str, hours: float) -> str:
    """The token, valid for `hours` from now; nothing is sent.

    Raises:
        ValueError: hours are not above 0 and at most 12.
    """
    if not 0 < hours <= MAX_HOURS:
        raise ValueError(f"A token lives at most {MAX_HOURS} hours, not {hours:g}.")
    request = AWSRequest(
        method="POST",
        url=f"https://{HOST}/",
        headers={"host": HOST},
        params={"Action": "CallWithBearerToken"},
    )
    # Frozen, since credentials that are refreshed between two reads would sign with half of each.
    frozen = credentials.get_frozen_credentials()
    SigV4QueryAuth(frozen, "sagemaker", region, expires=int(hours * 3600)).add_auth(request)
    signed = f"{str(request.url).removeprefix('https://')}&Version=1"
    return PREFIX + base64.b64encode(signed.encode()).decode()


def main() -> None:
    """Print a token for the caller's credentials and region."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=1.0, help="how long it is valid, at most 12")
    parser.add_argument("--region", help="by default the caller's")
    arguments = parser.parse_args()
    session = Session()
    region = arguments.region or session.get_config_variable("region")
    credentials = session.get_credentials()
    if not region or credentials is None:
        sys.exit("error: no AWS credentials or region; set AWS_PROFILE and AWS_REGION")
    try:
        print(bearer_token(credentials, region, arguments.hours))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
