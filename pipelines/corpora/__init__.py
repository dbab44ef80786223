"""Data: built-in corpora, sources, and preparation into stores."""
