"""What is run: settings, presets, the command line, and the data."""
