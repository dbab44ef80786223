"""No objective beside reconstruction: the plain autoencoder."""

from arae_core.settings import Settings


class NoObjective:
    """Codes are not compared: there are no steps (2) and (3), and no prior is trained."""

    compares_batches = False

    def __init__(self, settings: Settings) -> None:
        pass
