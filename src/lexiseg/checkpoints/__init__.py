"""Trained models as files: training file, model folder, program folder, published layouts, cards."""
