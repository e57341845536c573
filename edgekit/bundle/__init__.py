"""What lies beside a model file that ships: its record, its bill of materials, its card, labels and a runner."""
