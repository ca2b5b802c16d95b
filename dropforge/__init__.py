"""Dropforge: a support-chat export in, a fine-tuned and judged model behind an HTTPS API out."""
