"""`whence demo`: plants known faults in a small model trained on the spot, and traces them."""


def demo() -> None:
    """Plant three known faults in a small model trained here, and trace each one."""
