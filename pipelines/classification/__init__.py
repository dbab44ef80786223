"""Semi-supervised classification: classifiers trained with few labels on top of an autoencoder."""
