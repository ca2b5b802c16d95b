"""What this project expects of the AWS emulator, probed on a running one."""
