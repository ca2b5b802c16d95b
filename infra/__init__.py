"""The CDK application: everything Dropforge needs on AWS, in four stacks."""
