"""Fine-tuning for int8: the network learns to give its float answers through int8, without labels."""
