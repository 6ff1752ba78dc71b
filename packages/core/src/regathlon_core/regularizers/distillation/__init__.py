"""Knowledge distillation: learn from the softened outputs of a trained teacher."""
