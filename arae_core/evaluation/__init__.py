"""How good a trained model is: figures computed from what it writes or draws, without any other library."""
