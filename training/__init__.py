"""The LoRA job. `train.py` also runs alone, copied into a SageMaker training container."""
