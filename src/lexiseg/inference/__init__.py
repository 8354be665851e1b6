"""From a photograph and words to a labelled map: the one path of prediction, evaluation and export."""
