"""How good a trained model is: figures computed from what it writes or draws, with numpy alone."""
