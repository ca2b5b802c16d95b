"""The CDK application: everything Dropforge needs on AWS, in four stacks."""

import os

# Node 20 works and is what many laptops have; the box of warnings about it hides what matters.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
