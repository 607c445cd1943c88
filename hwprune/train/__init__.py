"""Recovery by distillation."""
