"""Evaluation of trained models with libraries: classifiers, BLEU, figures, and published results to compare with."""
