"""What evaluation needs beyond the core: classifiers and BLEU from libraries, and the published figures."""
