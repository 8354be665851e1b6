"""Losses: readable reference forms, the fused form that training uses, and the criterion around it."""
